"""Finds the tolerance under which the rest of a run is predicted to stay within a number of evaluations."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..history import Array
from .error_model import Gaps, Situation, Whole, longest_within

_LOWEST, _HIGHEST = 1e-12, 1e6  # tolerances below evaluate every step, above as few as `max_skips` allows


def tolerances_for(gaps: Gaps, now: Situation, evaluations: Array, first: Array) -> Array:
    """The least tolerances, within 10 %, under which at most `evaluations` follow; found by bisection in the logarithm.

    Args:
        gaps: The steps of the run.
        now: Where the samples stand.
        evaluations: Number of evaluations that are left to each sample, (R,).
        first: Tolerances to start from, (R,).
    """

    def too_many(tolerance: Array, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether more evaluations than are left follow, for the chosen samples; False for the others."""
        found = np.zeros(len(first), dtype=bool)
        found[chosen] = made(gaps, now.of(chosen), tolerance[chosen]) > evaluations[chosen]
        return found

    low, high = first.copy(), first.copy()
    many = too_many(first, np.ones(len(first), dtype=bool))
    rising, falling = many.copy(), ~many
    while (rising := rising & many & (high < _HIGHEST)).any():
        low, high = np.where(rising, high, low), np.where(rising, 4 * high, high)
        many = np.where(rising, too_many(high, rising), many)
    while (falling := falling & ~many & (low > _LOWEST)).any():
        low, high = np.where(falling, low / 4, low), np.where(falling, low, high)
        many = np.where(falling, too_many(low, falling), many)
    while (apart := high > 1.1 * low).any():
        middle = np.sqrt(low * high)
        many = too_many(middle, apart)
        low, high = np.where(apart & many, middle, low), np.where(apart & ~many, middle, high)
    return high


def made(gaps: Gaps, now: Situation, tolerance: Array) -> Whole:
    """Number of evaluations that follow under tolerances (R,), if x0 keeps its motion: (R,).

    Its speed falls as `gaps.pace` does: near clean data x0 hardly moves.
    """
    count = np.zeros(len(tolerance), dtype=np.int64)
    before, steps, nodes = now.before.copy(), now.steps.copy(), now.nodes.copy()
    while len(going := np.flatnonzero(steps < gaps.steps - 1)):
        part = now.of(going)
        speed = part.speed * gaps.pace[steps[going]] / gaps.pace[part.steps]
        present = replace(part, steps=steps[going], nodes=nodes[going], before=before[going], speed=speed)
        before[going] = longest_within(gaps.errors(present, gaps.ahead(present)), tolerance[going])
        steps[going] += 1 + before[going]
        newer = np.concatenate((gaps.log_snr[steps[going], None], nodes[going, :-1]), axis=1)
        nodes[going] = np.where(np.isnan(nodes[going]), np.nan, newer)
        count[going] += 1
    return count
