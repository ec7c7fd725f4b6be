"""Masks of evaluated steps for another number of steps."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_ROUNDING: Final = 1e-9


def rescaled(mask: Sequence[bool], steps: int) -> tuple[bool, ...]:
    """A mask with the same density of evaluations along the run for another number of steps.

    The number of evaluations up to each point of the run, as a share of all steps, is kept; a step is evaluated where
    that number passes the next whole one. The first and the last step are always evaluated.

    Args:
        mask: Whether each step is evaluated.
        steps: The other number of steps.
    """
    if steps == len(mask):
        return tuple(mask)
    passed = [_evaluations(mask, step / steps) * steps / len(mask) for step in range(steps + 1)]
    made = [int(after + _ROUNDING) > int(before + _ROUNDING) for before, after in pairwise(passed)]
    return (True, *made[1:-1], True) if steps > 1 else (True,)


def _evaluations(mask: Sequence[bool], share: float) -> float:
    """Number of evaluations in the first `share` of the run, a step counting in proportion to its part in it."""
    whole, part = divmod(share * len(mask), 1)
    done = sum(mask[: int(whole)])
    return done + part * mask[int(whole)] if whole < len(mask) else float(done)
