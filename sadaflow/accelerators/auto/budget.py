"""Predicts how many evaluations a tolerance costs, and finds the tolerance that costs a given number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from ..history import Array
from .error_model import Gaps, Situation, Whole

_LOWEST, _HIGHEST = 1e-9, 1e3  # tolerances below evaluate every step, above as few as `max_skips` allows
_HALVINGS: Final = 24  # of the logarithm of this interval, which finds a tolerance within 1e-6 of its own


@dataclass(frozen=True)
class Forecast:
    """The errors of gaps that repeat, for a motion whose speed is `Gaps.pace`, and the costs that follow from them.

    If gaps of length g suit a step, one in g + 1 steps around it is evaluated. The cost of a run is the sum over its
    steps.

    Attributes:
        memories: The memories that samples may have, (M,).
        errors: Error of a gap of L + 1 skips after each step, if the nodes before it are as far apart: (M, N, L);
            infinite for gaps that are not possible.
    """

    memories: Array
    errors: Array

    @classmethod
    def of(cls, gaps: Gaps, memories: Sequence[float]) -> Self:
        """The forecast for the steps of a run and some memories."""
        each, steps = np.array(memories, dtype=np.float64), np.arange(gaps.steps)
        errors = np.full((len(each), gaps.steps, gaps.max_skips), np.inf)
        for length in range(1, gaps.max_skips + 1):
            past = steps[:, None] - np.arange(gaps.count + 1) * (length + 1)
            nodes = np.where(past >= 0, gaps.log_snr[np.maximum(past, 0)], np.nan)
            nodes = np.where(np.isfinite(nodes), nodes, np.nan)
            able = np.flatnonzero(np.isfinite(nodes[:, 0]))
            before = np.full(len(able), gaps.max_skips)
            for index, memory in enumerate(each):
                held = np.full(len(able), memory)
                now = Situation(able, nodes[able], before, held, gaps.pace[able])
                found = gaps.errors(now, gaps.ahead(now))[:, length - 1]
                errors[index, able, length - 1] = np.where(np.isnan(found), np.inf, found)
            # Towards the end, where the gap does not fit any more, a shorter one takes its place in the density.
            last = gaps.steps - 3 - length
            if last >= 0:
                errors[:, last + 1 : gaps.steps - 2, length - 1] = errors[:, last : last + 1, length - 1]
        return cls(each, np.maximum.accumulate(errors, axis=2))

    def evaluations(self, steps: Whole, memory: Array, ratio: Array, tolerance: Array) -> Array:
        """Number of evaluations that follow those of `steps` under tolerances, (R,).

        Args:
            steps: Index of each sample's last evaluation, (R,).
            memory: Its memory, one of `memories`, (R,).
            ratio: Its speed over `Gaps.pace`, (R,).
            tolerance: Its tolerance, (R,).
        """
        errors = self.errors[np.abs(self.memories - memory[:, None]).argmin(axis=1)]
        lengths = (errors * ratio[:, None, None] <= tolerance[:, None, None]).sum(axis=2)
        following = np.arange(self.errors.shape[1]) > steps[:, None]
        counts: Array = (following / (1.0 + lengths)).sum(axis=1)
        return counts

    def tolerances(self, steps: Whole, memory: Array, ratio: Array, left: Array) -> Array:
        """The least tolerances under which at most `left` evaluations follow; arguments as for `evaluations`."""
        low, high = np.full(len(left), np.log(_LOWEST)), np.full(len(left), np.log(_HIGHEST))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            many = self.evaluations(steps, memory, ratio, np.exp(middle)) > left
            low, high = np.where(many, middle, low), np.where(many, high, middle)
        found: Array = np.exp(high)
        return found
