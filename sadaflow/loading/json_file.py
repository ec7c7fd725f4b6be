"""Reads JSON files written by other programs; every error names the file."""

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST = 64 * 2**20
"""The largest JSON file that is read, in bytes."""

_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


@contextmanager
def naming(file: Path | str) -> Iterator[None]:
    """Context manager that puts `file` in front of the message of any ValueError that does not mention it."""
    try:
        yield
    except ValueError as error:
        if str(file) in str(error):
            raise
        raise ValueError(f"{file}: {error}") from error


def read_object(file: Path) -> dict[str, Any]:
    """Read the JSON object in `file`.

    Args:
        file: UTF-8 text, with or without a byte order mark. `Infinity` and `-Infinity` are numbers, as Python and
            JavaScript write them.

    Returns:
        The object. If a key is repeated the last value counts, and a warning names the key.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is longer than 64 MiB, is neither UTF-8 nor JSON, holds anything but an object, or is a
            web page or a git-lfs pointer saved under this name.
    """
    if not file.is_file():
        raise FileNotFoundError(f"the checkpoint has no {file}")
    if (size := file.stat().st_size) > LONGEST:
        raise ValueError(f"{file} has {size} bytes; a description of a checkpoint has at most {LONGEST}")
    text = _text(file, file.read_bytes())
    repeated: dict[str, None] = {}

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            counts = Counter(name for name, _ in items)
            repeated.update(dict.fromkeys(name for name, count in counts.items() if count > 1))
        return found

    try:
        content = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:  # bad syntax, numbers of thousands of digits, deep nesting
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, expected a JSON object")
    if repeated:
        names = ", ".join(repr(name[:80]) for name in list(repeated)[:5])
        warnings.warn(f"{file} has several values for {names}; the last one is used", stacklevel=3)
    return content


def _text(file: Path, data: bytes) -> str:
    """Decode the bytes of a JSON file; raises ValueError if they are evidently of another type."""
    start = data.removeprefix(_UTF8_MARK).lstrip()
    if not start:
        raise ValueError(f"{file} is not valid JSON: the file is empty; download it again")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"{file} is a git-lfs pointer, not the file itself; fetch it with 'git lfs pull'")
    if start.startswith(b"<"):
        raise ValueError(f"{file} is not JSON but an HTML or XML page, saved in place of the file; download it again")
    if data.startswith(_UTF16_MARKS) or b"\0" in start[:4]:
        raise ValueError(f"{file} is not valid JSON: its text is UTF-16 or UTF-32; save it as UTF-8")
    try:
        return data.removeprefix(_UTF8_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not valid JSON: its text is not UTF-8 ({error})") from error
