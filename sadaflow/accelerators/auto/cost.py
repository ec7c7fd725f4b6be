"""Tolerances under a prescribed cost: from a measured cost curve, or from the model of `Auto` where there is none."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..history import Array
from .budget import made, tolerances_for
from .error_model import Gaps, Situation, Whole

_TYPICAL_MEMORY: Final = 0.3
_TYPICAL_SPEED: Final = 0.7  # over `Gaps.pace`; that of tiny-flux is 0.6, that of tiny-sd 0.5 to 5 (docs/sada.md)


@dataclass(frozen=True)
class Cost:
    """How many evaluations are asked for, and what decides the tolerance that keeps to them.

    Attributes:
        mean: Evaluations to make per sample in the mean over samples; None if the tolerance is prescribed.
        most: Most evaluations of any sample, at least `least` of the solver; None for any number.
        tolerance: The prescribed tolerance, or the one whose mean cost is `mean`.
        measured: Whether `tolerance` was read off a measured cost curve. If not, samples correct it as they proceed.
    """

    mean: float | None
    most: int | None
    tolerance: float
    measured: bool

    def tolerances(self, gaps: Gaps, now: Situation, used: Whole) -> Array:
        """Tolerances for the gap that follows an evaluation, (R,).

        Args:
            gaps: The steps of the run.
            now: Where the samples stand.
            used: Number of evaluations that each has made, (R,).
        """
        chosen = np.full(len(used), self.tolerance)
        known = np.isfinite(now.speed)
        if self.mean is not None and not self.measured and known.any():
            chosen[known] = self._corrected(gaps, now.of(known), self.mean - used[known])
        if self.most is not None and known.any():
            left = self.most - used
            over = np.flatnonzero(known)
            over = over[made(gaps, now.of(over), chosen[over]) > left[over]]
            if len(over):
                chosen[over] = tolerances_for(gaps, now.of(over), left[over].astype(np.float64), chosen[over])
        return chosen

    def _corrected(self, gaps: Gaps, now: Situation, left: Array) -> Array:
        """Tolerances between the typical one and those that would spend just `left` evaluations.

        Early in a run a sample's motion says little about the rest of it, so its weight grows with the steps made.
        """
        own = tolerances_for(gaps, now, left, np.full(len(left), self.tolerance))
        chosen: Array = self.tolerance * (own / self.tolerance) ** (now.steps / gaps.steps)
        return chosen

    def shortest(self, gaps: Gaps, steps: Whole, used: Whole) -> Whole:
        """Shortest gaps after evaluations at `steps` that leave `most` within reach, (R,)."""
        if self.most is None:
            return np.zeros(len(steps), dtype=np.int64)
        reach = gaps.max_skips + 1
        # The last two steps are evaluated; each evaluation before them covers itself and a gap.
        ahead, left = gaps.steps - 3 - steps, self.most - used - 2
        needed = np.where(ahead > left * reach + gaps.max_skips, gaps.max_skips, ahead - left * reach)
        shortest: Whole = np.clip(needed, 0, np.maximum(np.minimum(gaps.max_skips, ahead), 0))
        return shortest


def fewest_evaluations(gaps: Gaps, warm_up: int) -> int:
    """Evaluations of a run under an unlimited tolerance, in which each gap may be one longer than the gap before."""
    unknown = int(np.isinf(gaps.log_snr).sum())  # a step at pure noise shows no motion
    step, length = max(warm_up, 2 + unknown) - 1, 0
    count = step + 1
    while step < gaps.steps - 1:
        length = max(min(gaps.max_skips, length + 1, gaps.steps - 3 - step), 0)
        step, count = step + 1 + length, count + 1
    return count


def least_evaluations(gaps: Gaps, warm_up: int) -> int:
    """Fewest evaluations of a run in which every gap may have the greatest length."""
    rest = gaps.steps - warm_up - 2 - gaps.max_skips
    return warm_up + 2 + math.ceil(max(rest, 0) / (gaps.max_skips + 1))


def typical_tolerance(gaps: Gaps, warm_up: int, evaluations: float) -> float:
    """The tolerance under which a typical sample makes `evaluations`; 0 if that is every step."""
    if evaluations >= gaps.steps:
        return 0.0
    step = warm_up - 1
    nodes = np.full((1, gaps.count + 1), np.nan)
    past = gaps.log_snr[step::-1][: gaps.count + 1]
    past = past[np.isfinite(past)]
    nodes[0, : len(past)] = past
    now = Situation(
        np.array([step]),
        nodes,
        np.zeros(1, dtype=np.int64),
        np.array([_TYPICAL_MEMORY]),
        np.array([_TYPICAL_SPEED * gaps.pace[step]]),
    )
    return float(tolerances_for(gaps, now, np.array([evaluations - warm_up]), np.full(1, 1e-3))[0])
