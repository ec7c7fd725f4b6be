"""Prints lines and warnings; nothing that came from outside reaches the terminal with control characters in it."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ..files.printable import one_line, printable

LONGEST = 4000
"""Characters of an error or warning that are shown."""


def say(text: str, *, err: bool = False) -> None:
    """Print text, with characters that the stream cannot encode escaped.

    Args:
        text: The text, of one or more lines.
        err: Print on stderr, above the progress bar if there is one, in place of stdout.
    """
    stream = sys.stderr if err else sys.stdout
    shown = _encodable(printable(text), stream)
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(shown, file=stream)
    else:
        print(shown, file=stream)


def say_line(text: str) -> None:
    """Print text on one line of stderr, above the progress bar if there is one."""
    say(one_line(text, LONGEST), err=True)


def say_error(message: str, label: str = "error") -> None:
    """Print an error or warning on one line of stderr."""
    print(f"{label}: {_encodable(one_line(message, LONGEST), sys.stderr)}", file=sys.stderr)


@contextmanager
def warnings_on_one_line() -> Iterator[None]:
    """Context manager in which warnings are shown as `warning: text`, without the line of code that raised them."""
    with warnings.catch_warnings():

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            say_line(f"warning: {message}")

        warnings.showwarning = show
        yield


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
