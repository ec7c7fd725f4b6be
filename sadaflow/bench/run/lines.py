"""Append-only files of measurements: one sealed JSON object per line."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Final

from ...files.atomic import naming_file, write_atomically
from ...files.own_json import NUMBER, NUMBER_OR_NONE, Fields, read_bytes, seal, unseal

Record = dict[str, Any]
Say = Callable[[str], object]

_CASE: Final[Fields] = {"model": str, "solver": str, "steps": int, "guidance": NUMBER_OR_NONE}
SAMPLE: Final[Fields] = {
    **_CASE,
    **{"method": str, "setting": str, "prompt": str, "seed": int, "nfe": NUMBER, "modes": str},
    **{"psnr": (float, int, str, NoneType), "ssim": NUMBER_OR_NONE, "error": NUMBER, "seconds": NUMBER},
}
SET: Final[Fields] = {**_CASE, "setting": str, "metric": str, "value": NUMBER}
ROUND: Final[Fields] = {**_CASE, "first": int, "samples": int, "round": int, "runs": dict}
_LARGEST: Final = 2**32
"""Bytes of the largest file that is read."""


@dataclass(frozen=True)
class Lines:
    """A file of records.

    Attributes:
        path: The file; it need not exist.
        fields: The fields that each record has.
    """

    path: Path
    fields: Fields

    def read(self) -> list[Record]:
        """Reads all complete lines; an incomplete last line is ignored.

        Raises:
            ValueError: If a line is damaged. The message names it.
        """
        return [unseal(line, self.fields, f"{self.path}, line {number}") for number, line in self._complete()]

    def mend(self, keep: Callable[[Record], bool], say: Say) -> None:
        """Removes an incomplete last line, and lines that are damaged or not to be kept, which are measured again.

        Args:
            keep: Whether a record belongs into the file; called once for each, in order.
            say: Called with a line of text for each removed line, but not for an incomplete last one.
        """
        if not self.path.exists():
            return
        kept = []
        for number, line in self._complete():
            label = f"{self.path}, line {number}"
            try:
                record = unseal(line, self.fields, label)
            except ValueError as error:
                say(f"{error}; it is measured again")
                continue
            if keep(record):
                kept.append(line + b"\n")
            else:
                say(f"{label} occurs twice, or does not belong to this suite; it is removed")
        self._replace(b"".join(kept))

    def append(self, records: Iterable[Record]) -> None:
        """Appends records and waits until they are on the disk."""
        text = "".join(map(seal, records))
        with naming_file(self.path), self.path.open("ab") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())

    def write(self, records: Iterable[Record]) -> None:
        """Replaces the content of the file, unless it is the same."""
        self._replace("".join(map(seal, records)).encode("utf-8"))

    def _replace(self, content: bytes) -> None:
        if not self.path.exists() or read_bytes(self.path, _LARGEST) != content:
            write_atomically(self.path, content)

    def _complete(self) -> list[tuple[int, bytes]]:
        text = read_bytes(self.path, _LARGEST) if self.path.exists() else b""
        return list(enumerate(text.split(b"\n")[:-1], 1))
