"""Reading a checkpoint's config.json: every field is used, known to be without effect, or refused by name."""

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

# Beyond every published model, and small enough that no product of a few of them overflows or takes long to build.
_WIDEST, _MOST = 2**20, 1000
_LEVELS = 32


class Kind(NamedTuple):
    """What the value of a field must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]

    def __or__(self, other: "Kind") -> "Kind":
        return Kind(f"{self.words} or {other.words}", lambda value: self.holds(value) or other.holds(value))


def list_of(kind: Kind, plural: str) -> Kind:
    """A list of 1 to 32 entries, each a `kind`."""

    def holds(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and 1 <= len(value) <= _LEVELS and all(map(kind.holds, value))

    return Kind(f"a list of {plural}", holds)


def whole(least: int, most: int) -> Kind:
    """A whole number within limits; true and false are none."""
    words = f"a whole number from {least} to {most}"
    return Kind(words, lambda value: type(value) is int and least <= value <= most)


NONE = Kind("null", lambda value: value is None)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a finite number", lambda value: type(value) in (int, float) and abs(value) < math.inf)
POSITIVE = Kind("a positive number", lambda value: NUMBER.holds(value) and value > 0)
WIDTH = whole(1, _WIDEST)
WIDTHS = list_of(WIDTH, "such numbers")
COUNT = whole(1, _MOST)
COUNTS = list_of(COUNT, "such numbers")
NAMES = list_of(Kind("a name", lambda value: isinstance(value, str)), "names")


def refuse_mistyped(owner: str, raw: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Raise ValueError for a field of `raw` whose value is not of its kind."""
    for field, kind in kinds.items():
        if field in raw and not kind.holds(raw[field]):
            raise ValueError(f"{owner} config: {field}={reprlib.repr(raw[field])} is not {kind.words}")


def refuse_unsupported(
    owner: str, raw: Mapping[str, Any], known: Iterable[str], only: Mapping[str, tuple[Any, ...]]
) -> None:
    """Raise ValueError for a field of `raw` that `owner` neither knows nor can honour.

    `known` names the fields that are read or have no effect on the result; `only` gives, for fields of which a part
    of the values is supported, those values. Fields that start with "_" are bookkeeping of the writer.
    """
    known = set(known)
    for field, value in raw.items():
        if field.startswith("_") or field in known:
            continue
        if field not in only:
            raise ValueError(
                f"{owner} config: field {field[:80]!r} (value {reprlib.repr(value)}) is unknown and cannot be honoured"
            )
        allowed = only[field]
        value = tuple(value) if isinstance(value, list) else value
        if value not in allowed:
            raise ValueError(
                f"{owner} config: {field}={reprlib.repr(value)} is not supported; "
                f"supported: {', '.join(map(repr, allowed))}"
            )


def per_level(owner: str, field: str, value: Any, levels: int) -> tuple[Any, ...]:
    """Spread a per-level field over `levels`: a single value is repeated, a list must have that length."""
    if not isinstance(value, (list, tuple)):
        return (value,) * levels
    if len(value) != levels:
        raise ValueError(f"{owner} config: {field}={value!r} has {len(value)} entries for {levels} levels")
    return tuple(value)
