"""The text that names an object with its settings: `"auto budget=25"`, `"sada tokens=false + guidance"`."""

from dataclasses import dataclass
from typing import Final

_QUOTES: Final = "'\""
_OPENING: Final = {"(": ")", "[": "]"}
_NAME_STARTS: Final = "_./~"  # and letters: what may follow a "+" that joins two names


@dataclass(frozen=True)
class Named:
    """A name with settings.

    Attributes:
        name: A registered name, or `module:Class`.
        settings: Settings by name, as they are written.
    """

    name: str
    settings: tuple[tuple[str, str], ...] = ()


def read_named(text: str, what: str) -> Named:
    """Reads a name with settings.

    Args:
        text: The name, followed by any number of `setting=value`. Values that contain spaces are quoted.
        what: What is named, for errors: "solver".

    Raises:
        ValueError: if there is no name, if a setting is not written so, or if it is given twice.
    """
    name, *given = _words(text, what) or [""]
    name = unquoted(name)
    if not name or _is_setting(name):
        raise ValueError(f"{what} {text!r} does not begin with a name; write: NAME setting=value ...")
    settings: dict[str, str] = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not (equals and key and value):
            raise ValueError(f"{what} {text!r}: {word!r} must be setting=value, without spaces around '='")
        if key in settings:
            raise ValueError(f"{what} {text!r} gives {key} twice")
        settings[key] = value
    return Named(name, tuple(settings.items()))


def split_sum(text: str, what: str) -> list[str]:
    """Splits a text at each "+" that joins two names; the sign of a number (`1e+3`) and quoted text are left alone."""
    parts, start = [], 0
    for index in _outside(text, what):
        if text[index] == "+" and _names_follow(text, index + 1):
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def split_list(text: str, what: str) -> list[str]:
    """Splits a text at commas, without the brackets around it; what is within quotes or inner brackets stays whole."""
    text = text.strip()
    if text[:1] in _OPENING and not _outside(text, what):
        text = text[1:-1].strip()
    entries, start = [], 0
    for index in _outside(text, what):
        if text[index] == ",":
            entries.append(text[start:index].strip())
            start = index + 1
    last = text[start:].strip()
    return [*entries, last] if last else entries


def unquoted(text: str) -> str:
    """The text without the quotes around it."""
    return text[1:-1] if len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0] else text


def _is_setting(word: str) -> bool:
    return word.partition("=")[0].isidentifier() and "=" in word


def _names_follow(text: str, index: int) -> bool:
    after = text[index:].lstrip()[:1]
    return after == "" or after.isalpha() or after in _NAME_STARTS + _QUOTES


def _words(text: str, what: str) -> list[str]:
    """Splits a text at spaces."""
    words, start = [], 0
    for index in _outside(text, what):
        if text[index].isspace():
            words.append(text[start:index])
            start = index + 1
    return [word for word in [*words, text[start:]] if word]


def _outside(text: str, what: str) -> list[int]:
    """Indices of the characters outside of quotes and brackets; raises ValueError if one of these is left open."""
    if not isinstance(text, str):
        raise ValueError(f"the name of a {what} is a text, got {text!r}")
    found, quote, open_brackets = [], "", []
    for index, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        elif letter in _OPENING:
            open_brackets.append(_OPENING[letter])
        elif open_brackets and letter == open_brackets[-1]:
            open_brackets.pop()
        elif not open_brackets:
            found.append(index)
    if missing := quote or "".join(open_brackets):
        raise ValueError(f"{what} {text!r} lacks a closing {missing}")
    return found
