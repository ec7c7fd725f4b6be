"""The record of a finished batch: the manifest's lines of its prompts, and a last line that seals them."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Final

from ..files.own_json import Fields, parse_record, read_bytes
from .prompt_file import Prompt

Line = Mapping[str, Any]
_LINE: Final[Fields] = {
    "index": int,
    "name": str,
    "file": (str, NoneType),
    "sha256": (str, NoneType),
    "error": (str, NoneType),
    "together": int,
    "prompt": str,
    "seed": int,
}
_LAST: Final[Fields] = {"lines": int, "sha256": str}


def encode_batch(lines: Iterable[Line]) -> bytes:
    """The content of a record."""
    texts = [json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines]
    body = "".join(texts).encode()
    last = {"lines": len(texts), "sha256": hashlib.sha256(body).hexdigest()}
    return body + (json.dumps(last) + "\n").encode()


def read_batch(path: Path) -> tuple[bytes, list[Line]]:
    """Read a record.

    Args:
        path: Its file.

    Returns:
        The manifest's lines as they are written, and read.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a byte of it was changed.
    """
    content = read_bytes(path)
    start = content.rfind(b"\n", 0, len(content) - 1) + 1
    body, last = content[:start], parse_record(content[start:], _LAST, f"{path}, last line")
    if last["sha256"] != hashlib.sha256(body).hexdigest() or last["lines"] != body.count(b"\n"):
        raise ValueError(f"{path} is damaged (its lines do not have its checksum)")
    lines = body.split(b"\n")[:-1]
    return body, [parse_record(line, _LINE, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def check_batch(path: Path, folder: Path, members: Sequence[Prompt], ending: str) -> bool:
    """Check a record and the files that it lists.

    Args:
        path: File of the record.
        folder: Folder of the files.
        members: The prompts of the batch.
        ending: Ending of the files' names.

    Returns:
        Whether no prompt of it failed.

    Raises:
        FileNotFoundError: If there is no record.
        ValueError: If it is damaged, is not that of these prompts, or if a file is missing or has another checksum.
    """
    _, lines = read_batch(path)
    if len(lines) != len(members):
        raise ValueError(f"{path} has {len(lines)} lines for {len(members)} prompts")
    for number, (line, prompt) in enumerate(zip(lines, members, strict=True), 1):
        expected = {"index": prompt.index, "name": prompt.name, "prompt": prompt.prompt, "seed": prompt.seed}
        for name, value in expected.items():
            if line[name] != value:
                raise ValueError(f"{path}, line {number} has another {name} than the prompt")
        if line["error"] is None:
            _check_file(folder, line, prompt.name + ending, f"{path}, line {number}")
    return all(line["error"] is None for line in lines)


def _check_file(folder: Path, line: Line, name: str, label: str) -> None:
    if line["file"] != name:
        raise ValueError(f"{label} lists another file than {name}")
    try:
        found = hashlib.sha256(read_bytes(folder / name, longest=2**40)).hexdigest()
    except FileNotFoundError:
        raise ValueError(f"{folder / name} is missing") from None
    if found != line["sha256"]:
        raise ValueError(f"{folder / name} has another checksum than recorded")
