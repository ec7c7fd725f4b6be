"""The folder that `generate --prompts` fills. It stays consistent if the process is killed at any moment.

    run.json              what all files share: settings, versions, digests of weights and prompts
    000000.png, ...       the files, named as their prompts
    batches/000000.jsonl  the manifest's lines of a finished batch, written after its files
    manifest.jsonl        all lines in the order of the prompts, once every batch is finished

A batch is finished when its lines exist; until then it is sampled again as a whole. No file holds a clock time.
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
    """A complete manifest.

    Attributes:
        path: Its file.
        lines: Number of its lines.
        failed: Indices of the prompts that failed.
    """

    path: Path
    lines: int
    failed: Sequence[int]


@dataclass(frozen=True)
class Folder:
    """The folder of a run.

    Attributes:
        path: The folder.
        identity: What must be the same each time the run is continued.
        batches: Number of batches.
    """

    path: Path
    identity: Mapping[str, Any]
    batches: int

    def check(self, resume: bool) -> None:
        """Make the checks of `begin`, and change nothing. Not all of the identity need be known."""
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"'{self.path}' is a file; --prompts fills a folder")
        if resume and self._header.exists():
            self._check_same(self.identity)
        elif self.path.exists() and any(child.suffix != ".part" for child in self.path.iterdir()):
            remedy = "continue it with --resume, or name another" if self._header.exists() else "name another folder"
            raise FileExistsError(f"the folder '{self.path}' is not empty; {remedy}")

    def begin(self, resume: bool) -> None:
        """Create the folder, or prepare an interrupted one: partial files and failed batches are removed.

        One process calls this before the others `join`.

        Args:
            resume: Whether to continue an existing folder.

        Raises:
            FileExistsError: If the folder is not empty, and is not to be continued.
            ValueError: If it was begun with another identity. The difference is named.
            BlockingIOError: If another command is filling it.
        """
        self.check(resume)
        self.path.mkdir(parents=True, exist_ok=True)
        with occupied(self.path, alone=True):
            write_atomically(self._header, (json.dumps(self.identity, indent=1, ensure_ascii=False) + "\n").encode())
            (self.path / "batches").mkdir(exist_ok=True)
            for folder in (self.path, self.path / "batches"):
                for part in folder.glob(".*.part"):
                    part.unlink()
            sound = [self._is_sound(batch) for batch in range(self.batches)]
            if not all(sound):
                self.manifest.unlink(missing_ok=True)

    def join(self) -> None:
        """Check that the folder was begun with the identity of this process. Raises ValueError if not."""
        self._check_same(self.identity)

    def has(self, batch: int) -> bool:
        """Whether a batch is finished."""
        return self._lines(batch).exists()

    def keep(self, batch: int, files: Mapping[str, bytes], lines: Iterable[Line]) -> None:
        """Write a batch: first its files, then its lines.

        Args:
            batch: Number of the batch.
            files: Contents by file name.
            lines: Lines of the manifest.

        Raises:
            FileNotFoundError: If the folder has been removed.
        """
        for name, content in files.items():
            self._check_present()
            write_atomically(self.path / name, content)
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        write_atomically(self._lines(batch), text.encode())

    def merge(self) -> Tally | None:
        """Write the manifest and count its lines; None while batches are missing.

        The process that finishes the last batch succeeds; if two do at the same time, they write the same manifest.
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
        """Remove the folder if no batch was finished, so that the next start finds none."""
        if any((self.path / "batches").glob("*.jsonl")):
            return
        self._header.unlink(missing_ok=True)
        for folder in (self.path / "batches", self.path):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    @property
    def manifest(self) -> Path:
        """File of the manifest."""
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
        """Whether a batch is finished without failures; removes its lines if not, so that it is sampled again."""
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

    def _check_same(self, identity: Mapping[str, Any]) -> None:
        try:
            found = json.loads(self._header.read_text("utf-8"))
            begun = dict(_leaves(found))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{self._header} is damaged ({error}); name another folder") from error
        now = dict(_leaves(json.loads(json.dumps(identity))))
        for name in [*now, *(name for name in begun if name.partition(".")[0] in identity)]:
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
