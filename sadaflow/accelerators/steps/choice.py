"""The ways in which a set of evaluated steps is given, and the mask that it means for a number of steps."""

import json
from collections.abc import Sequence
from numbers import Real
from typing import Any

from .published import PUBLISHED, published_mask

Choice = str | Sequence[bool] | Sequence[int] | Sequence[float]
"""A name, a mask as "1101" or as bools, indices of steps, or fractions of the run (0.0: first step, 1.0: last)."""


def mask_of_choice(choice: Choice, steps: int) -> tuple[bool, ...]:
    """The mask of evaluated steps for a run of `steps`.

    Raises:
        ValueError: if the choice has the wrong length, an index beyond the run, or a name that is unknown.
    """
    choice = _parsed(choice)
    if isinstance(choice, str):
        if choice in PUBLISHED:
            return published_mask(choice, steps)
        choice = [character == "1" for character in choice]
    if isinstance(choice[0], bool):
        if len(choice) != steps:
            raise ValueError(
                f"the mask is one of {len(choice)} steps, the solver makes {steps}: give fractions of the run, as "
                "(0.0, 0.1, 1.0), for any number of steps"
            )
        return tuple(bool(evaluated) for evaluated in choice)
    chosen = {step if isinstance(step, int) else round(step * (steps - 1)) for step in choice}
    if beyond := [step for step in sorted(chosen) if step >= steps]:
        raise ValueError(f"step {beyond[0]} is to be evaluated, but the solver makes {steps} steps, 0 to {steps - 1}")
    return tuple(step in chosen for step in range(steps))


def check_choice_of_steps(choice: object) -> None:
    """Raises ValueError if `choice` is none of the ways in which a set of steps is given."""
    choice = _parsed(choice)
    if isinstance(choice, str):
        if choice not in PUBLISHED and (not choice or set(choice) - set("01")):
            raise ValueError(
                f"unknown set of steps {choice!r}: give a mask as '11010001', indices or fractions as '[0,3,7]', or "
                f"one of {', '.join(PUBLISHED)}"
            )
        return
    if not isinstance(choice, Sequence) or not choice:
        raise ValueError(f"a set of steps is a name, a mask, or a sequence of indices or fractions, got {choice!r}")
    kinds = {type(step) for step in choice}
    if len(kinds) > 1 or not all(isinstance(step, Real) for step in choice):
        raise ValueError(
            f"a set of steps holds only bools (a mask), only whole numbers (indices) or only fractions, got {choice!r}"
        )
    if not all(0 <= step and (isinstance(step, int) or step <= 1) for step in choice):
        raise ValueError(f"a set of steps holds indices from 0 on, or fractions from 0 to 1, got {choice!r}")


def _parsed(choice: Any) -> Any:
    """The sequence that a text as "[0,3,7]" stands for, as it comes from a command line; others are unchanged."""
    if isinstance(choice, str) and choice[:1] in ("[", "("):
        try:
            return json.loads(f"[{choice[1:-1]}]")
        except ValueError:
            return choice
    return choice
