"""The folder that `generate --prompts` fills. It survives being killed at any moment.

    run.json              what all files share: settings, versions, digests of weights and prompts
    000000.png, ...       the files, named as their prompts
    batches/000000.jsonl  the manifest's lines of a finished batch, written after its files
    manifest.jsonl        all lines in the order of the prompts, once every batch is finished

A batch is finished when its lines are there; until then it is sampled again, whole. No file holds a clock time.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..files.atomic import write_atomically, write_whole
from ..files.folder_lock import occupied

Line = Mapping[str, Any]
HEADER: Final = "run.json"


@dataclass(frozen=True)
class Tally:
    """A complete manifest: how many lines it has, and the indices of those that tell of failures."""

    path: Path
    lines: int
    failed: Sequence[int]


@dataclass(frozen=True)
class Folder:
    """One run's folder, of `batches` batches; `identity` is what must not change while it is filled."""

    path: Path
    identity: Mapping[str, Any]
    batches: int

    def check(self, resume: bool) -> None:
        """Raise as `begin`, of which this is the part that changes nothing; the identity may be known in part."""
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"'{self.path}' is a file; --prompts fills a folder")
        if resume and self._header.exists():
            self._check_same(self.identity)
        elif self.path.exists() and any(child.suffix != ".part" for child in self.path.iterdir()):
            remedy = "continue it with --resume, or name another" if self._header.exists() else "name another folder"
            raise FileExistsError(f"the folder '{self.path}' is not empty; {remedy}")

    def begin(self, resume: bool) -> None:
        """Make the folder, or put an interrupted one in order: no torn files, and failed batches to be tried again.

        For one process alone, before others `join`. Raises FileExistsError for a folder that is not empty and not to be
        resumed, ValueError naming what differs for one that was begun otherwise, BlockingIOError for one being filled.
        """
        self.check(resume)
        self.path.mkdir(parents=True, exist_ok=True)
        with occupied(self.path, alone=True):
            write_atomically(self._header, (json.dumps(self.identity, indent=1, ensure_ascii=False) + "\n").encode())
            (self.path / "batches").mkdir(exist_ok=True)
            for place in (self.path, self.path / "batches"):
                for part in place.glob(".*.part"):
                    part.unlink()
            sound = [self._is_sound(batch) for batch in range(self.batches)]
            if not all(sound):
                self.manifest.unlink(missing_ok=True)

    def join(self) -> None:
        """Raise ValueError unless the folder was begun with the identity of this process too."""
        self._check_same(self.identity)

    def has(self, batch: int) -> bool:
        return self._lines(batch).exists()

    def keep(self, batch: int, files: Mapping[str, bytes], lines: Iterable[Line]) -> None:
        """Write a batch: first its files by name, then its lines. FileNotFoundError where the folder has vanished."""
        for name, content in files.items():
            self._check_present()
            write_atomically(self.path / name, content)
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        write_atomically(self._lines(batch), text.encode())

    def merge(self) -> Tally | None:
        """Write the manifest and say what is in it; None while batches are missing.

        Whoever finishes a batch last succeeds; if two do at once, they write the same.
        """
        self._check_present()
        if not all(self.has(batch) for batch in range(self.batches)):
            return None
        write_whole(self.manifest, self._write_manifest, overwrite=True)
        count, failed = 0, []
        with self.manifest.open(encoding="utf-8") as lines:
            for line in map(json.loads, lines):
                count += 1
                if line["error"] is not None:
                    failed.append(line["index"])
        return Tally(self.manifest, count, failed)

    def withdraw(self) -> None:
        """Take a folder back in which nothing was finished, so that the next start finds none."""
        if any((self.path / "batches").glob("*.jsonl")):
            return
        self._header.unlink(missing_ok=True)
        for place in (self.path / "batches", self.path):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.jsonl"

    @property
    def _header(self) -> Path:
        return self.path / HEADER

    def _lines(self, batch: int) -> Path:
        return self.path / "batches" / f"{batch:06d}.jsonl"

    def _write_manifest(self, manifest: BinaryIO) -> None:
        for batch in range(self.batches):
            with self._lines(batch).open("rb") as lines:
                shutil.copyfileobj(lines, manifest)

    def _check_present(self) -> None:
        if not self._header.exists():
            raise FileNotFoundError(f"the output folder '{self.path}' has vanished while it was filled")

    def _is_sound(self, batch: int) -> bool:
        """Whether a batch is finished without failures; if not, it is to be sampled (again)."""
        file = self._lines(batch)
        if not file.exists():
            return False
        try:
            lines = [json.loads(text) for text in file.read_text("utf-8").splitlines()]
            sound = all(line["error"] is None and (self.path / line["file"]).is_file() for line in lines)
        except (ValueError, KeyError, TypeError):  # edited by hand
            sound = False
        if not sound:
            file.unlink()
        return sound

    def _check_same(self, wanted: Mapping[str, Any]) -> None:
        try:
            found = json.loads(self._header.read_text("utf-8"))
            begun = dict(_leaves(found))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{self._header} is damaged ({error}); name another folder") from error
        now = dict(_leaves(json.loads(json.dumps(wanted))))
        for name in [*now, *(name for name in begun if name.partition(".")[0] in wanted)]:
            if begun.get(name) != now.get(name):
                raise ValueError(
                    f"the folder '{self.path}' was begun with another {name} (then {_short(begun.get(name))}, now "
                    f"{_short(now.get(name))}); resume it as it was begun, or name another folder"
                )


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The entries of nested objects by their dotted names."""
    for name, entry in value.items():
        if isinstance(entry, dict) and entry:
            yield from _leaves(entry, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", entry


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
