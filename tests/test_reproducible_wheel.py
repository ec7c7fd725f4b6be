"""The wheel and the source archive hold the same bytes whenever and wherever they are built from the same files."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("sadaflow", "models", "solvers", "pyproject.toml", "README.md", "LICENSE")


def _built(place: Path, mode: int, age: float) -> dict[str, str]:
    """Digests of what is built from a copy whose files have other times and permissions."""
    source, out = place / "source", place / "dist"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    for path in source.rglob("*"):
        if path.is_file():
            path.chmod(mode)
        os.utime(path, (1.7e9 + age, 1.7e9 + age))
    command = [sys.executable, str(ROOT / "docs/scripts/build_release.py"), str(source), str(out)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


@pytest.mark.slow
@pytest.mark.packaging
def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = _built(tmp_path / "a", 0o644, 0), _built(tmp_path / "b", 0o600, 86_400)
    assert first == second and {name.rpartition(".")[2] for name in first} == {"whl", "gz", "json"}
