"""Builds wheel and source archive, so that the same commit always gives the same bytes, and lists what they need.

    python docs/scripts/build_release.py SOURCE OUT            # `make release`: of this commit, into dist/

SOURCE_DATE_EPOCH is the time that all files in the archives get; without it that of the commit. Beside the archives
lies `sbom.json`: names, versions and checksums of the archives and of the packages that they need, in CycloneDX 1.6.
"""

import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any


def epoch(source: Path) -> int:
    """The time that files get: SOURCE_DATE_EPOCH, or that of the commit."""
    if (given := os.environ.get("SOURCE_DATE_EPOCH")) is not None:
        return int(given)
    command = ["git", "-C", str(source), "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def build(source: Path, out: Path, when: int) -> None:
    """Build both archives; permissions and times of the files are the same everywhere."""
    for path in source.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "SOURCE_DATE_EPOCH": str(when)})
    for archive in out.glob("*.tar.gz"):
        settle(archive, when)


def settle(archive: Path, when: int) -> None:
    """Rewrite a source archive with its members sorted, of one time, and of no owner."""
    content = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = when, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    with archive.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=when) as packed:
        packed.write(content.getvalue())


def bill(source: Path, out: Path) -> dict[str, Any]:
    """A bill of materials: the archives, and the packages that the library needs, as pyproject.toml names them."""
    project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {name: needs for name, needs in project["optional-dependencies"].items() if name not in ("dev", "all")}
    parts = [(need, "required") for need in project["dependencies"]]
    parts += [(need, "optional") for needs in extras.values() for need in needs if not need.startswith("sadaflow[")]
    files = sorted(path for path in out.iterdir() if path.suffix in (".whl", ".gz"))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "library", "name": project["name"], "version": project["version"]},
            "properties": [{"name": f"sha256 of {path.name}", "value": _sha256(path)} for path in files],
        },
        "components": [
            {
                "type": "library",
                "name": need.partition(">=")[0].strip(),
                "scope": scope,
                "properties": [{"name": "requirement", "value": need}],
            }
            for need, scope in dict(sorted(parts, key=lambda part: part[1])).items()
        ],
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    build(source, out, epoch(source))
    (out / "sbom.json").write_text(json.dumps(bill(source, out), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
