"""The folder that `generate --prompts` fills. It stays consistent if the process is killed at any moment.

    run.json              what all files share: settings, versions, digests of weights and prompts
    000000.png, ...       the files, named as their prompts
    batches/000000.jsonl  the manifest's lines of a finished batch and their checksum, written after its files
    manifest.jsonl        all lines in the order of the prompts, once every batch is finished

A batch is finished when its lines exist; until then it is sampled again as a whole. No file holds a clock time.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..files.atomic import write_atomically, write_whole
from ..files.folder_lock import occupied
from ..files.own_json import read_record
from .batch_record import Line, check_batch, encode_batch, read_batch
from .prompt_file import Prompt

HEADER: Final = "run.json"
FORMAT: Final = 2
"""Version of the files in the folder."""


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
        prompts: All prompts.
        batch: Number of prompts in a batch.
        ending: Ending of the files' names.
    """

    path: Path
    identity: Mapping[str, Any]
    prompts: Sequence[Prompt]
    batch: int
    ending: str = ".png"

    @property
    def batches(self) -> int:
        """Number of batches."""
        return -(-len(self.prompts) // self.batch)

    def members(self, batch: int) -> Sequence[Prompt]:
        """The prompts of a batch."""
        return self.prompts[batch * self.batch : (batch + 1) * self.batch]

    def check(self, resume: bool) -> None:
        """Make the checks of `begin`, and change nothing. Not all of the identity need be known."""
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"'{self.path}' is a file; --prompts fills a folder")
        if resume and self._header.exists():
            self._check_same(self.identity)
        elif self.path.exists() and any(child.suffix != ".part" for child in self.path.iterdir()):
            remedy = "continue it with --resume, or name another" if self._header.exists() else "name another folder"
            raise FileExistsError(f"the folder '{self.path}' is not empty; {remedy}")

    @contextmanager
    def begin(self, resume: bool, say: Callable[[str], object] = lambda problem: None) -> Iterator[None]:
        """Create the folder, or prepare an interrupted one, and hold its lock within the block.

        Partial files, damaged batches and failed batches are removed. One process calls this before the others `join`.

        Args:
            resume: Whether to continue an existing folder.
            say: Called with a line of text for each damaged batch.

        Raises:
            FileExistsError: If the folder is not empty, and is not to be continued.
            ValueError: If it was begun with another identity, or if a folder in it is a link.
            BlockingIOError: If another command is filling it.
        """
        self.check(resume)
        self.path.mkdir(parents=True, exist_ok=True)
        with occupied(self.path, alone=True) as share:
            self.check(resume)  # another command may have finished between
            write_atomically(self._header, (json.dumps(self._known, indent=1, ensure_ascii=False) + "\n").encode())
            batches = self.path / "batches"
            batches.mkdir(exist_ok=True)
            if batches.is_symlink():
                raise ValueError(f"{batches} is a link, which may lead out of the folder; remove it")
            for folder in (self.path, batches):
                for part in folder.glob(".*.part"):
                    part.unlink()
            sound = [self._is_sound(batch, say) for batch in range(self.batches)]
            if not all(sound):
                self.manifest.unlink(missing_ok=True)
            share()
            yield

    @contextmanager
    def join(self) -> Iterator[None]:
        """Hold the folder's lock within the block, as a further process of the command that has begun it.

        Raises:
            ValueError: If it was begun with another identity.
            BlockingIOError: If another command is preparing it.
        """
        with occupied(self.path):
            self._check_same(self._known)
            yield

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
        write_atomically(self._lines(batch), encode_batch(lines))

    def merge(self) -> Tally | None:
        """Write the manifest and count its lines; None while batches are missing.

        The process that finishes the last batch succeeds; if two do at the same time, they write the same manifest.
        """
        self._check_present()
        if not all(self.has(batch) for batch in range(self.batches)):
            return None
        failed: list[int] = []

        def write(manifest: BinaryIO) -> None:
            for batch in range(self.batches):
                body, lines = read_batch(self._lines(batch))
                manifest.write(body)
                failed.extend(line["index"] for line in lines if line["error"] is not None)

        write_whole(self.manifest, write, overwrite=True)
        return Tally(self.manifest, len(self.prompts), failed)

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

    def _check_present(self) -> None:
        if not self._header.exists():
            raise FileNotFoundError(f"the output folder '{self.path}' has vanished while it was filled")

    def _is_sound(self, batch: int, say: Callable[[str], object]) -> bool:
        """Whether a batch is finished without failures; removes its lines if not, so that it is sampled again."""
        file = self._lines(batch)
        try:
            sound = check_batch(file, self.path, self.members(batch), self.ending)
        except FileNotFoundError:
            return False
        except ValueError as error:
            say(f"{error}; batch {batch} is sampled again")
            sound = False
        if not sound:
            file.unlink()
        return sound

    @property
    def _known(self) -> Mapping[str, Any]:
        return {"format": FORMAT, **self.identity}

    def _check_same(self, identity: Mapping[str, Any]) -> None:
        try:
            begun = dict(_leaves(read_record(self._header, {})))
        except ValueError as error:
            raise ValueError(f"{error}; name another folder") from error
        if begun.get("format") != FORMAT:
            raise ValueError(
                f"{self._header} is of format {_short(begun.get('format'))}, which this version does not continue "
                f"(it writes format {FORMAT}); name another folder"
            )
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
