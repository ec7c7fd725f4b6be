"""Reads the value of a setting by the type of its field: from text, from a TOML file, or from Python."""

import json
import math
import types
from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from .text import split_list, unquoted

UNTYPED: Final = Any
"""The type of a setting of which nothing is known."""

_NONE: Final = ("none", "null")
_TRUTHS: Final = {"true": True, "false": False}
_WORDS: Final[dict[Any, str]] = {
    type(None): "none", bool: "true or false", int: "a whole number", float: "a number", str: "text",
}  # fmt: skip
_ORDER: Final = (type(None), bool, int, float)  # tried in this order, text last


class Unfit(ValueError):
    """A value that its type does not allow."""


def read_value(kind: Any, value: Any, *, written: bool) -> Any:
    """Reads a value of a type.

    Args:
        kind: The type: bool, int, float, str, None, tuples, lists, literals, enums, and unions of them.
        value: The value. A string is parsed, except that a string of Python stays one where the type allows text.
        written: Whether the value was written as text, with strings in quotes where they could be read otherwise.

    Raises:
        Unfit: if the type does not allow the value; the message says what it allows.
    """
    options = _options(kind)
    if isinstance(value, str) and (written or not (str in options or Any in options)):
        return _parsed(kind, value)
    if isinstance(value, list) and list not in map(_origin, options):
        value = tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)
    truth = isinstance(value, bool)
    if (truth and set(options) <= {int, float, str, type(None)}) or (not truth and set(options) == {bool}):
        raise Unfit(expected(kind))
    return value


def expected(kind: Any) -> str:
    """What a type allows, in words: "a whole number or none"."""
    return " or ".join(dict.fromkeys(_word(option) for option in _options(kind))) or "another object"


def _word(kind: Any) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(str(member.value) for member in kind)
    if _origin(kind) in (tuple, list):
        inner = [entry for entry in get_args(kind) if entry is not Ellipsis]
        entry = _WORDS.get(inner[0], "values") if inner else "values"
        plural = {"a number": "numbers", "a whole number": "whole numbers"}.get(entry, "values")
        count = "" if Ellipsis in get_args(kind) or not inner else f"{len(inner)} "
        return f"{count}{plural} separated by commas"
    return f"a {getattr(kind, '__name__', kind)} (in Python)"


def _options(kind: Any) -> tuple[Any, ...]:
    """The members of a union; `kind` itself if it is none."""
    kind = getattr(kind, "__value__", kind)  # a `type` alias
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(option for member in get_args(kind) for option in _options(member))
    return (type(None) if kind is None else kind,)


def _origin(kind: Any) -> Any:
    return get_origin(kind) or kind


def _parsed(kind: Any, text: str) -> Any:
    """The value that a text stands for; raises Unfit."""
    options = _options(kind)
    for option in sorted(options, key=lambda option: _ORDER.index(option) if option in _ORDER else 9 + (option is str)):
        try:
            return _parsed_as(option, text)
        except ValueError:
            continue
    raise Unfit(expected(kind))


def _parsed_as(kind: Any, text: str) -> Any:
    word = text.strip().lower()
    if kind in (type(None), bool):
        if word not in (_NONE if kind is not bool else _TRUTHS):
            raise Unfit
        return None if kind is not bool else _TRUTHS[word]
    if kind in (int, float):
        if "_" in word:
            raise Unfit
        return kind(word)
    if kind is str:
        return unquoted(text)
    if kind is Any:
        return guessed(text)
    if _origin(kind) in (tuple, list):
        return _sequence(kind, split_list(text, "value"))
    choices: Sequence[Any] = ()
    if get_origin(kind) is Literal:
        choices = get_args(kind)
    elif isinstance(kind, type) and issubclass(kind, Enum):
        choices = tuple(kind)
    for choice in choices:
        if unquoted(text) in (str(choice), str(getattr(choice, "value", choice)), getattr(choice, "name", "")):
            return choice
    raise Unfit


def _sequence(kind: Any, entries: Sequence[str]) -> Any:
    """Reads the entries of a tuple or list by the types that it declares."""
    inner = get_args(kind)
    if not inner:
        kinds: tuple[Any, ...] = (Any,) * len(entries)
    elif Ellipsis in inner or _origin(kind) is list:
        kinds = (inner[0],) * len(entries)
    else:
        kinds = inner
    if len(kinds) != len(entries):
        raise Unfit
    return _origin(kind)(_parsed(entry_kind, entry) for entry_kind, entry in zip(kinds, entries, strict=True))


def guessed(text: str) -> Any:
    """The value of a text without a type: none, true, false, a number, a list as a tuple, or else the text."""
    if text.strip().lower() in _NONE:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return _TRUTHS.get(text.strip().lower(), unquoted(text))
    if isinstance(found, float) and not math.isfinite(found):
        return text  # NaN and Infinity of json
    return tuple(found) if isinstance(found, list) else found
