"""Writes results: JSON lines, and a Markdown page that is rewritten after every record."""

import json
import math
from pathlib import Path
from typing import Any

from ...files.atomic import write_atomically
from .page import markdown
from .records import Record

_LINES, _PAGE, _LOG = "gpu.jsonl", "gpu.md", "gpu.log"


class Book:
    """The folder of a run: gpu.jsonl, gpu.md, and gpu.log with the output of the parts.

    Raises:
        FileExistsError: If the folder holds results.
        NotADirectoryError: If it is a file.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file; name a folder for the results")
        self._lines, self._page, self.log = (folder / name for name in (_LINES, _PAGE, _LOG))
        if self._lines.exists():
            raise FileExistsError(f"{self._lines} exists; name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        self.records: list[Record] = []

    def write(self, part: str, record: Record) -> None:
        """Appends a record of `part` and rewrites the page."""
        whole = {"part": part, **_plain(record)}
        self.records.append(whole)
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(whole, ensure_ascii=False, allow_nan=False) + "\n")
        write_atomically(self._page, markdown(self.records).encode("utf-8"))


def _plain(value: Any) -> Any:
    """Replaces NaN and infinity, which JSON does not have, by text."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
