"""Declares the arguments of a request: how each is checked, and how the command line offers it."""

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
from torch import Tensor

from sadaflow.solvers.names.settings import nearest

from .values import listed, real_number, whole_number

Read = Callable[[str, Any], Any]
"""Checks the value of the argument of that name and returns it in its final type; raises ValueError naming both."""

LARGEST: Final = 2**40
"""Upper bound of pixels and steps, well beyond what any memory holds."""


@dataclass(frozen=True)
class Argument:
    """One argument of a request.

    Attributes:
        read: Checks and converts a value.
        help: One short sentence for --help.
        flag_type: Type of the command-line flag: int, float, str, list[str], list[float], tuple[int, int],
            tuple[float, float], or float | str for a number or text; None for an argument of the Python API only.
        flag: Name on the command line, if it is not the argument's.
        metavar: Stands for the value in --help.
        shown_default: What --help shows as the default.
        per_sample: Whether each sample may have its own value, and so each line of a prompt file.
        per_line: Whether only a line of a prompt file may have its own value, and all samples of a call share one.
    """

    read: Read
    help: str
    flag_type: Any = None
    flag: str | None = None
    metavar: str = "NAME"
    shown_default: str | None = None
    per_sample: bool = False
    per_line: bool = False


def argument(default: Any, read: Read, help: str, **how: Any) -> Any:
    """A dataclass field that holds an `Argument`; `how` are the further fields of that."""
    return field(default=default, metadata={"argument": Argument(read, help, **how)})


def arguments(kind: type[Any]) -> dict[str, Argument]:
    """The arguments that a dataclass declares, by name."""
    return {item.name: item.metadata["argument"] for item in fields(kind)}


def anything(name: str, value: Any) -> Any:
    """Leaves the value to a later check, which needs the checkpoint."""
    return value


def optional(read: Read) -> Read:
    """Reads None as None and anything else by `read`."""
    return lambda name, value: None if value is None else read(name, value)


def count(least: int | None = None) -> Read:
    """Reads a whole number of at least `least`."""

    def read(name: str, value: Any) -> int:
        number = whole_number(name, value, most=LARGEST)
        if least is not None and number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
        return number

    return read


def number(name: str, value: Any) -> float:
    """Reads a finite number."""
    return real_number(name, value)


def number_from(least: float) -> Read:
    """Reads a finite number of at least `least`."""

    def read(name: str, value: Any) -> float:
        given = number(name, value)
        if given < least:
            raise ValueError(f"{name} must be at least {least:g}, got {given:g}")
        return given

    return read


def number_between(low: float, high: float) -> Read:
    """Reads a number from `low` to `high`."""

    def read(name: str, value: Any) -> float:
        given = number(name, value)
        if not low <= given <= high:
            raise ValueError(f"{name} must lie between {low:g} and {high:g}, got {given:g}")
        return given

    return read


def choice(known: Sequence[str]) -> Read:
    """Reads one of the strings `known`."""

    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"unknown {name} {value!r}{nearest(str(value), known)}; known: {', '.join(known)}")
        return value

    return read


def flag(name: str, value: Any) -> bool:
    """Reads True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}={reprlib.repr(value)} is neither True nor False")
    return bool(value)


def any_number(name: str, value: Any) -> float:
    """Reads a number that may be infinite or NaN."""
    return real_number(name, value, finite=False)


def numbers(name: str, value: Any) -> float | tuple[float, ...]:
    """Reads a finite number, or a sequence of them."""
    several = listed(value)
    return number(name, value) if several is None else tuple(number(name, entry) for entry in several)


def pair(meaning: str) -> Read:
    """Reads two whole numbers of pixels; `meaning` names them in errors."""

    def read(name: str, value: Any) -> tuple[int, int]:
        try:
            first, second = listed(value) or [None]
            return whole_number(name, first, 0), whole_number(name, second, 0)
        except ValueError:
            raise ValueError(f"{name} must be {meaning}, two whole numbers of pixels, got {value!r}") from None

    return read


def text(name: str, value: Any) -> str:
    """Reads a string without lone surrogates."""
    if not isinstance(value, str):
        raise ValueError(f"{name}={reprlib.repr(value)} is not text: give a string")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{name}={reprlib.repr(value)} holds half of a character (a lone surrogate)")
    return str(value)


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Reads a string, or a sequence of strings, as a tuple."""
    given = [value] if isinstance(value, str) else _entries(value)
    if given is None:
        raise ValueError(f"{name}={reprlib.repr(value)} is not text: give a string, or a list of strings")
    return tuple(text(name if len(given) == 1 else f"{name}[{i}]", entry) for i, entry in enumerate(given))


def text_or_texts(name: str, value: Any) -> str | None | tuple[str | None, ...]:
    """Reads None, a string for all samples, or a sequence with a string or None for each."""
    if value is None or isinstance(value, str):
        return None if value is None else text(name, value)
    given = _entries(value)
    if given is None:
        raise ValueError(
            f"{name}={reprlib.repr(value)} is not text: give a string for all prompts, or a list with one for each"
        )
    return tuple(None if entry is None else text(f"{name}[{i}]", entry) for i, entry in enumerate(given))


def whole_numbers(least: int, most: int) -> Read:
    """Reads a whole number within the range, or a sequence of them."""

    def read(name: str, value: Any) -> int | tuple[int, ...]:
        several = listed(value)
        if several is None:
            return whole_number(name, value, least, most)
        return tuple(whole_number(f"{name}[{i}]", entry, least, most) for i, entry in enumerate(several))

    return read


def cannot_be_used(name: str, value: Any, expected: str) -> str:
    """The message for an object of a wrong type."""
    found = f"the class {value.__name__}" if isinstance(value, type) else reprlib.repr(value)
    return f"{name}={found} cannot be used: give {expected}"


def _entries(value: Any) -> list[Any] | None:
    """The entries of an ordered collection or iterator; None for any other value."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return list(value.tolist())
    unordered = (bytes, bytearray, Mapping, Set, np.ndarray, Tensor)
    if isinstance(value, unordered) or not isinstance(value, Iterable):
        return None
    return list(value)


def spread(value: Any, samples: int) -> list[Any]:
    """One value for each sample, from a sequence with one for each or a single value for all."""
    several = not isinstance(value, str) and isinstance(value, Sequence)
    return list(value) if several else [value] * samples
