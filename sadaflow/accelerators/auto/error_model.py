"""Predicts the error of skipping evaluations from the observed motion of x0, for all samples at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from sadaflow.solvers import Solver

from ..history import Array
from .kriging import Predictor, predict

MEASURED: Final = 2.0
"""Measured gains are multiplied by this. The formula's are about twice as large, and tolerances keep their meaning."""

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Situation:
    """Where samples stand after an evaluation; one entry per sample.

    Attributes:
        steps: Index of the evaluation, (R,).
        nodes: log-SNR of the evaluations made, newest first, nan where there is none, (R, n).
        before: Number of skips of the previous gap, (R,).
        memory: Correlation length of the velocity of x0 in log-SNR, (R,).
        speed: Root mean square of this velocity; infinite if it is not known yet. (R,)
    """

    steps: Whole
    nodes: Array
    before: Whole
    memory: Array
    speed: Array

    def of(self, chosen: NDArray[np.bool_] | Whole) -> "Situation":
        """The situation of some samples."""
        return Situation(
            self.steps[chosen], self.nodes[chosen], self.before[chosen], self.memory[chosen], self.speed[chosen]
        )


@dataclass(frozen=True)
class Gaps:
    """The steps of one run, and the gaps that are possible between evaluations.

    Attributes:
        log_snr: log-SNR of each step, (N,).
        gains: Change of the final sample per error of x0 at each step, (N,).
        pace: Speed of x0 that is to be expected at each step, up to a factor, (N,).
        max_skips: Length of the longest gap.
        count: Number of evaluations from which x0 is predicted.
    """

    log_snr: Array
    gains: Array
    pace: Array
    max_skips: int
    count: int

    @classmethod
    def of(cls, solver: Solver, max_skips: int, count: int, gains: Sequence[float] | None = None) -> Self:
        """The steps of a run with `solver`.

        Args:
            solver: The solver, with its grid.
            max_skips: Length of the longest gap.
            count: Number of evaluations from which x0 is predicted.
            gains: Measured gains, one per step; None takes those of the function `gains`.

        Raises:
            ValueError: if the number of gains is not that of the steps.
        """
        each = _formula(solver) if gains is None else gains
        if len(each) != solver.n_evals:
            raise ValueError(f"{len(each)} gains were given for {solver.n_evals} steps: one per step is needed")
        log_snr = np.array([node.log_snr for node in solver.nodes], dtype=np.float64)
        pace = np.array([node.noise_fraction for node in solver.nodes], dtype=np.float64)
        return cls(log_snr, np.array(each, dtype=np.float64), pace, max_skips, count)

    @property
    def steps(self) -> int:
        """Number of steps, N."""
        return len(self.log_snr)

    def ahead(self, now: Situation) -> Predictor:
        """Predictors of x0 at the `max_skips` steps after each sample's evaluation, from its last `count` nodes."""
        at = self.log_snr[self._following(now.steps)]
        return predict(now.nodes[:, : self.count], at, now.memory)

    def errors(self, now: Situation, ahead: Predictor) -> Array:
        """Predicted change of the final sample for every gap that is possible.

        It is the sum of the interpolation error of the replayed steps and of the error of the next true x0, which is
        evaluated at the extrapolated state. A gap is at most one longer than the one before it, and none reaches the
        last two steps.

        Args:
            now: Where the samples stand.
            ahead: What `ahead` returns for them.

        Returns:
            Entry (row, k) is the root-mean-square change if the k + 1 steps after the evaluation are skipped; nan if
            they may not be. (R, max_skips)
        """
        longest = np.minimum(np.minimum(self.max_skips, now.before + 1), self.steps - 3 - now.steps)
        unknown = np.where(np.isfinite(now.speed), 0.0, np.inf)
        errors = np.where(np.arange(self.max_skips) < longest[:, None], unknown[:, None], np.nan)
        able = np.flatnonzero((longest > 0) & np.isfinite(now.speed))
        if len(able):
            most = int(longest[able].max())
            errors[able, :most] += self._errors(now.of(able), ahead.spread[able, :most])
        return errors

    def _errors(self, now: Situation, ahead: Array) -> Array:
        """Predicted errors of gaps of 1 to G skips, (R, G), from the spreads of the skipped steps, as `ahead`."""
        skipped = self._following(now.steps)[:, : ahead.shape[1]]
        at, gains = self.log_snr[skipped], self.gains[skipped]
        nodes = np.empty((*skipped.shape, self.count))
        nodes[..., 0] = self.log_snr[np.minimum(skipped + 1, self.steps - 1)]
        nodes[..., 1:] = now.nodes[:, None, : self.count - 1]
        inside = np.tril(predict(nodes, at[:, None], now.memory[:, None]).spread)  # (R, gap, skipped step)
        after = (inside * gains[:, None]).sum(axis=2)
        errors: Array = now.speed[:, None] * (after + (gains * ahead).cumsum(axis=1) * gains.cumsum(axis=1))
        return errors

    def _following(self, steps: Whole) -> Whole:
        """The `max_skips` steps after each of `steps`, (R, max_skips), or the last step beyond the end."""
        return np.minimum(steps[:, None] + np.arange(1, self.max_skips + 1), self.steps - 1)


def longest_within(errors: Array, tolerance: Array) -> Whole:
    """Length of the longest gap up to which no error exceeds the tolerance, (R,).

    Args:
        errors: From `Gaps.errors`, (R, max_skips).
        tolerance: Largest error allowed, (R,).
    """
    return np.logical_and.accumulate(errors <= tolerance[:, None], axis=1).sum(axis=1)


def gains(ratios: Sequence[float]) -> list[float]:
    """Change of the final sample per error of x0 at each step, up to a constant factor.

    As the noise-to-signal ratio falls from s to s', x / alpha takes in (1 - s'/s) x0. An error made at s < 1 persists.
    At s > 1 the noise hides it from the network, and it fades, here as 1 / sqrt(s) (measured in docs/lab-notes.md).

    Args:
        ratios: Noise-to-signal ratio sigma / alpha of each step, decreasing.
    """
    following = [*ratios[1:], 0.0]
    return [(1 - after / ratio) / max(1.0, ratio) ** 0.5 for ratio, after in zip(ratios, following, strict=True)]


def _formula(solver: Solver) -> list[float]:
    return gains([node.sigma / node.alpha if node.alpha else math.inf for node in solver.nodes])
