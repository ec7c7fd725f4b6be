"""Reads weights in prompts: (word:1.3), (word), [word], and brackets that a backslash makes plain text."""

import re
from dataclasses import dataclass, field
from typing import Final

MORE: Final = 1.1
"""Factor of round brackets without a number; square brackets divide by it."""

HIGHEST: Final = 4.0
"""Largest weight of a word, all brackets around it together."""

_ESCAPED: Final = "()[]:\\"
_NUMBER: Final = re.compile(r":\s*([0-9]*\.?[0-9]+)\s*$")
_CLOSING: Final = {"(": ")", "[": "]"}

Fragment = tuple[str, float]
"""A part of a prompt and its weight."""


@dataclass
class _Bracket:
    """An open bracket: the fragments in it, and the text since the last of them, as written and as read."""

    kind: str
    fragments: list[Fragment] = field(default_factory=list)
    written: str = ""
    read: str = ""

    def flush(self) -> None:
        if self.read:
            self.fragments.append((self.read, 1.0))
        self.written = self.read = ""


def weighted_fragments(prompt: str) -> list[Fragment]:
    """Divide a prompt into fragments of one weight each.

    Args:
        prompt: The prompt. (x) has the weight 1.1, [x] 1 / 1.1 and (x:1.3) 1.3; nested weights are multiplied. A
            backslash before a bracket, a colon or a backslash makes it text.

    Raises:
        ValueError: If brackets do not match, or if a weight is above `HIGHEST`.
    """
    open_brackets = [_Bracket("")]
    position = 0
    while position < len(prompt):
        here, top = prompt[position], open_brackets[-1]
        if here == "\\" and prompt[position + 1 : position + 2] in tuple(_ESCAPED):
            top.written, top.read = top.written + "\\\0", top.read + prompt[position + 1]
            position += 1
        elif here in _CLOSING:
            top.flush()
            open_brackets.append(_Bracket(here))
        elif here in _CLOSING.values():
            if _CLOSING.get(top.kind) != here:
                raise ValueError(_unmatched(prompt, here, position))
            open_brackets.pop()
            open_brackets[-1].flush()
            open_brackets[-1].fragments += _closed(top)
        else:
            top.written, top.read = top.written + here, top.read + here
        position += 1
    if len(open_brackets) > 1:
        raise ValueError(_unmatched(prompt, open_brackets[-1].kind, position))
    open_brackets[0].flush()
    fragments = open_brackets[0].fragments
    for text, weight in fragments:
        if weight > HIGHEST:
            raise ValueError(
                f"the weight {weight:g} of {text[:40]!r} in the prompt {prompt[:80]!r} is above {HIGHEST:g}; a colon "
                "that is text is written \\:"
            )
    return fragments


def _closed(bracket: _Bracket) -> list[Fragment]:
    """The fragments of a bracket at its end, times its factor."""
    factor = MORE if bracket.kind == "(" else 1 / MORE
    found = _NUMBER.search(bracket.written) if bracket.kind == "(" else None
    if found is not None:
        factor = float(found[1])
        bracket.read = bracket.read[: len(bracket.read) - len(found[0])]
    bracket.flush()
    return [(text, weight * factor) for text, weight in bracket.fragments]


def _unmatched(prompt: str, bracket: str, position: int) -> str:
    return (
        f"the bracket {bracket!r} in the prompt {prompt[:80]!r} has no counterpart (character {position}); with "
        f"prompt_weights=True a bracket that is text is written \\{bracket}"
    )
