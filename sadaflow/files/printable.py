"""Makes text from outside (checkpoints, file names, prompts, servers) safe to print on a terminal."""

import re

# Control characters except newline, marks that reverse the direction of text, line separators, lone surrogates.
_UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Replace control characters by their escapes (`\x1b`), so that a terminal shows them and obeys none.

    Args:
        text: Text of any origin; its newlines are kept.
    """
    return _UNSAFE.sub(lambda match: repr(match[0])[1:-1], text)


def one_line(text: str, longest: int | None = None) -> str:
    """`printable` text on one line.

    Args:
        text: Text of any origin; runs of white space become one space.
        longest: Number of characters after which the text is cut; None for no limit.
    """
    line = printable(" ".join(text.split()))
    return line if longest is None or len(line) <= longest else f"{line[: longest - 3]}..."


def cell(text: str) -> str:
    """`printable` text for a cell of a table or a line of a list: newlines are escaped, and spaces are kept."""
    return printable(text).replace("\n", "\\n")
