"""The formats of files of prompts: text, JSON Lines, tables, MS-COCO captions, and benchmarks as published."""

import csv
import io
import json
import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ..families.request import PER_LINE, PER_SAMPLE

FIELDS: Final = (*PER_SAMPLE, *PER_LINE, "id")
"""Names that a line may use: the arguments that each sample may have for itself, and the name of its file."""

_LONGEST: Final = 1000
"""Characters of the longest message on a line."""
_PUBLISHED: Final[Mapping[tuple[str, ...], str]] = {
    ("Prompts", "Category"): "Prompts",
    ("Prompt", "Category", "Challenge", "Note"): "Prompt",
}
"""Headers of tables as DrawBench and PartiPrompts publish them, and the column that holds the prompt."""
_GENEVAL: Final = frozenset({"tag", "include", "exclude"})
"""Fields of GenEval's lines beside the prompt, which say what a detector must find."""

Entry = Mapping[str, Any]
"""The fields of a line by the names of `FIELDS`."""


class BadLine(ValueError):
    """A line of a prompt file that cannot be read.

    Args:
        path: The file.
        line: Number of the line, from 1.
        problem: What is wrong with it, as the end of the sentence.
    """

    def __init__(self, path: Path, line: int, problem: str) -> None:
        shown = problem if len(problem) <= _LONGEST else f"{problem[:_LONGEST]}..."
        super().__init__(f"prompt file '{path}', line {line} {shown}")


def _text(path: Path, content: str) -> Iterator[tuple[int, Entry]]:
    for line, text in enumerate(content.split("\n"), 1):
        if text.strip():
            yield line, {"prompt": text.strip()}


def _objects(path: Path, content: str) -> Iterator[tuple[int, Entry]]:
    for line, text in enumerate(content.split("\n"), 1):
        if not text.strip():
            continue
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadLine(path, line, f"is not valid JSON: {error}") from error
        if not isinstance(entry, dict):
            raise BadLine(path, line, f'holds {reprlib.repr(entry)}, expected an object like {{"prompt": "red apple"}}')
        yield line, {name: entry[name] for name in entry if name not in _GENEVAL}


def _tabs(path: Path, content: str) -> Iterator[tuple[int, Entry]]:
    return _rows(path, content, delimiter="\t", quoting=csv.QUOTE_NONE)


def _table(path: Path, content: str) -> Iterator[tuple[int, Entry]]:
    return _rows(path, content, strict=True)


def _rows(path: Path, content: str, **dialect: Any) -> Iterator[tuple[int, Entry]]:
    rows = csv.reader(io.StringIO(content, newline=""), **dialect)
    header: list[str] | None = None
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise BadLine(path, line, f"is not valid CSV: {error}") from error
        if row is None:
            return
        if not row:
            continue
        if header is None:
            published = _PUBLISHED.get(tuple(row))
            header = row if published is None else ["prompt" if name == published else "" for name in row]
            if published is not None:
                continue
            if "prompt" not in header or len(set(header)) < len(header):
                named = f"is the header and names {', '.join(header)}"
                raise BadLine(path, line, f"{named}; of {', '.join(FIELDS)} it must name prompt, and none twice")
            continue
        if len(row) != len(header):
            raise BadLine(path, line, f"has {len(row)} cells, the header {len(header)}")
        cells = zip(header, row, strict=True)
        entry: dict[str, Any] = {name: cell for name, cell in cells if name and cell or name == "prompt"}
        if re.fullmatch("[0-9]{1,30}", entry.get("seed", "")):
            entry["seed"] = int(entry["seed"])
        yield line, entry


def _captions(path: Path, content: str) -> Iterator[tuple[int, Entry]]:
    """Reads MS-COCO's {"annotations": [{"image_id": 139, "id": 371, "caption": "..."}, ...]}, without line numbers."""
    try:
        first: dict[int, tuple[int, str]] = {}
        for entry in json.loads(content)["annotations"]:
            image, number, caption = int(entry["image_id"]), int(entry["id"]), entry["caption"].strip()
            first[image] = min(first.get(image, (number, caption)), (number, caption))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"prompt file '{path}' does not hold captions as MS-COCO's do: {type(error).__name__}: {error}"
        ) from error
    for image, (_, caption) in sorted(first.items()):
        yield 1, {"prompt": caption, "id": image}


FORMS: Final = {".txt": _text, ".jsonl": _objects, ".csv": _table, ".tsv": _tabs, ".json": _captions}
"""The reader of each format by the ending of the file: it yields numbers of lines, and their fields."""
