"""Predicts the error of skipping evaluations from the observed motion of x0."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sadaflow.solvers import Solver

from .kriging import predict

_LOWEST, _HIGHEST = 1e-12, 1e6  # tolerances below evaluate every step, above as few as `max_skips` allows


@dataclass(frozen=True)
class Motion:
    """How x0 of a sample moves along log-SNR.

    Attributes:
        memory: Correlation length of its velocity, in log-SNR.
        speed: Root mean square of its velocity.
    """

    memory: float
    speed: float


@dataclass(frozen=True)
class Gap:
    """A number of evaluations skipped in a row.

    Attributes:
        skips: The number.
        error: Predicted root-mean-square change of the final sample.
    """

    skips: int
    error: float


@dataclass(frozen=True)
class Gaps:
    """The steps of one run, and the gaps that are possible between evaluations.

    Attributes:
        log_snr: log-SNR of each step.
        gains: Change of the final sample per error of x0 at each step.
        max_skips: Length of the longest gap.
        count: Number of evaluations from which x0 is predicted.
    """

    log_snr: Sequence[float]
    gains: Sequence[float]
    max_skips: int
    count: int

    @classmethod
    def of(cls, solver: Solver, max_skips: int, count: int) -> Self:
        """The steps of a run with `solver`."""
        ratios = [node.sigma / node.alpha if node.alpha else math.inf for node in solver.nodes]
        return cls([node.log_snr for node in solver.nodes], gains(ratios), max_skips, count)

    def tried(
        self, step: int, motion: Motion | None, nodes: Sequence[float], before: int, tolerance: float
    ) -> list[Gap]:
        """Gaps of increasing length after the evaluation of `step`, up to the first whose error exceeds `tolerance`.

        Args:
            step: Index of the evaluation.
            motion: Motion of x0; None if it is not known yet.
            nodes: log-SNR of the evaluations made, newest first.
            before: Skips of the previous gap. A gap is at most one longer than the one before it.
            tolerance: Largest error allowed.

        Returns:
            The gaps; none reaches the last two steps.
        """
        found = []
        for skips in range(1, min(self.max_skips, before + 1, len(self.log_snr) - 3 - step) + 1):
            found.append(Gap(skips, math.inf if motion is None else self.error(step, skips, motion, nodes)))
            if found[-1].error > tolerance:
                break
        return found

    def error(self, step: int, skips: int, motion: Motion, nodes: Sequence[float]) -> float:
        """Predicted change of the final sample if `skips` steps after `step` are skipped.

        It is the sum of the interpolation error of the replayed steps and of the error of the next true x0, which is
        evaluated at the extrapolated state.
        """
        outside = tuple(nodes[: self.count])
        inside = (self.log_snr[step + skips + 1], *nodes)[: self.count]
        before = after = total = 0.0
        for k in range(step + 1, step + skips + 1):
            at, gain = self.log_snr[k], self.gains[k]
            before += gain * predict(outside, at, motion.memory).spread
            after += gain * predict(inside, at, motion.memory).spread
            total += gain
        return motion.speed * (after + before * total)

    def evaluations(
        self, step: int, motion: Motion | None, nodes: Sequence[float], before: int, tolerance: float
    ) -> int:
        """Number of evaluations after that of `step` under `tolerance`, if x0 keeps its motion."""
        count, past = 0, list(nodes)
        while step < len(self.log_snr) - 1:
            within = [gap for gap in self.tried(step, motion, past, before, tolerance) if gap.error <= tolerance]
            before = within[-1].skips if within else 0
            step += 1 + before
            past = [self.log_snr[step], *past][: len(nodes)]
            count += 1
        return count

    def tolerance_for(
        self,
        step: int,
        motion: Motion | None,
        nodes: Sequence[float],
        before: int,
        evaluations: float,
        first: float,
    ) -> float:
        """The least tolerance, within 10 %, under which at most `evaluations` follow that of `step`.

        Found by bisection in the logarithm, starting from `first`. The other arguments are those of `tried`.
        """

        def made(tolerance: float) -> int:
            return self.evaluations(step, motion, nodes, before, tolerance)

        count = made(first)
        if count == int(evaluations):
            return first
        low, high = first, first
        while count > evaluations and high < _HIGHEST:
            low, high = high, 4 * high
            count = made(high)
        while count <= evaluations and low > _LOWEST:
            low, high = low / 4, low
            count = made(low)
        while high > 1.1 * low:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if made(middle) > evaluations else (low, middle)
        return high


def gains(ratios: Sequence[float]) -> list[float]:
    """Change of the final sample per error of x0 at each step, up to a constant factor.

    As the noise-to-signal ratio falls from s to s', x / alpha takes in (1 - s'/s) x0. An error made at s < 1 persists.
    At s > 1 the noise hides it from the network, and it fades, here as 1 / sqrt(s) (measured in docs/sada.md).

    Args:
        ratios: Noise-to-signal ratio sigma / alpha of each step, decreasing.
    """
    following = [*ratios[1:], 0.0]
    return [(1 - after / ratio) / max(1.0, ratio) ** 0.5 for ratio, after in zip(ratios, following, strict=True)]
