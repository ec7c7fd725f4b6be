"""Reads JSON that this program has written. Reading is bounded and strict, and every error names the file.

A line can be sealed: its last field is a digest of the others, so that a change of any of them is noticed.
"""

import hashlib
import json
import math
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Final

Record = dict[str, Any]
Fields = Mapping[str, type | tuple[type, ...]]
"""Names and types of the fields of a record. A float may be written without a fraction; it must be finite."""

LONGEST: Final = 64 * 2**20
"""The largest file of records that is read at once, in bytes."""
SEAL: Final = "digest"
NUMBER: Final = (float, int)
NUMBER_OR_NONE: Final = (float, int, NoneType)


def read_bytes(path: Path, longest: int = LONGEST) -> bytes:
    """Read a regular file.

    Args:
        path: The file; links are not followed.
        longest: The largest size in bytes.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is a link, a pipe, a device or a folder, or larger.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is not a regular file")
    if found.st_size > longest:
        raise ValueError(f"{path} has {found.st_size} bytes; such a file has at most {longest}")
    return path.read_bytes()


def read_record(path: Path, fields: Fields) -> Record:
    """Read a file that holds one object; see `parse_record`. Raises as `read_bytes` and `parse_record` do."""
    return parse_record(read_bytes(path), fields, str(path))


def parse_record(text: bytes, fields: Fields, label: str) -> Record:
    """Read an object.

    Args:
        text: JSON in UTF-8.
        fields: The fields that it must have; it may have others.
        label: File and line, for errors.

    Raises:
        ValueError: If the text is not such an object. NaN, Infinity and repeated names are refused.
    """
    try:
        found = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{label} is damaged ({error})") from error
    check_fields(found, fields, label)
    return dict(found)


def check_fields(found: object, fields: Fields, label: str) -> None:
    """Check that an object has fields of these types.

    Raises:
        ValueError: If it is not an object, or lacks a field, or has one of another type. The field is named.
    """
    if not isinstance(found, dict):
        raise ValueError(f"{label} is damaged (it holds a {type(found).__name__}, expected an object)")
    for name, kind in fields.items():
        if name not in found:
            raise ValueError(f"{label} is damaged (it has no {name!r})")
        value = found[name]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        if wrong or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{label} is damaged ({name} is {reprlib.repr(value)})")


def seal(record: Mapping[str, Any]) -> str:
    """The line of a record, with its digest and a newline at its end."""
    body = _encoded(record)
    return f'{body[:-1]}{", " if record else ""}"{SEAL}": "{_digest(body)}"}}\n'


def unseal(line: bytes, fields: Fields, label: str) -> Record:
    """Read a line that `seal` wrote; raises ValueError if it was changed, or as `parse_record` does."""
    record = parse_record(line, fields, label)
    if record.pop(SEAL, None) != _digest(_encoded(record)):
        raise ValueError(f"{label} is damaged (its fields do not have its {SEAL})")
    return record


def _encoded(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _unrepeated(pairs: list[tuple[str, Any]]) -> Record:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a name twice")
    return found
