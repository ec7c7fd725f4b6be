"""What leaving out evaluations is predicted to cost, from how x0 of a sample was seen to move."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sadaflow.solvers import Solver

from .kriging import guess

_LOWEST, _HIGHEST = 1e-12, 1e6  # of a tolerance: below, everything is evaluated, above, as little as may be


@dataclass(frozen=True)
class Motion:
    """How x0 of a sample moves along log-SNR: `memory` of its velocity, and `speed`, its root mean square."""

    memory: float
    speed: float


@dataclass(frozen=True)
class Gap:
    """`skips` evaluations left out, and the predicted error of the final sample."""

    skips: int
    error: float


@dataclass(frozen=True)
class Gaps:
    """The steps of one run: log-SNR of each, how much an error of x0 there moves the final sample, the longest gap,
    and through how many evaluations x0 is guessed."""

    log_snr: Sequence[float]
    gains: Sequence[float]
    max_skips: int
    count: int

    @classmethod
    def of(cls, solver: Solver, max_skips: int, count: int) -> Self:
        ratios = [node.sigma / node.alpha if node.alpha else math.inf for node in solver.nodes]
        return cls([node.log_snr for node in solver.nodes], gains(ratios), max_skips, count)

    def tried(
        self, step: int, motion: Motion | None, nodes: Sequence[float], before: int, tolerance: float
    ) -> list[Gap]:
        """Longer and longer gaps after the evaluation of `step`, to the first whose error exceeds `tolerance`.

        `motion` is None where nothing is known of it, `nodes` are the log-SNR of the evaluations made, newest first,
        and `before` the skips of the gap before, of which this one has at most one more: a prediction is trusted as far
        as it has proved itself. The last two steps are evaluated.
        """
        found = []
        for skips in range(1, min(self.max_skips, before + 1, len(self.log_snr) - 3 - step) + 1):
            found.append(Gap(skips, math.inf if motion is None else self.error(step, skips, motion, nodes)))
            if found[-1].error > tolerance:
                break
        return found

    def error(self, step: int, skips: int, motion: Motion, nodes: Sequence[float]) -> float:
        """Predicted change of the final sample by skipping `skips` steps after `step`.

        What remains is the interpolation error of the replayed steps, and the error of the next true x0, which the
        network gives at the extrapolated state.
        """
        outside = tuple(nodes[: self.count])
        inside = (self.log_snr[step + skips + 1], *nodes)[: self.count]
        before = after = total = 0.0
        for k in range(step + 1, step + skips + 1):
            at, gain = self.log_snr[k], self.gains[k]
            before += gain * guess(outside, at, motion.memory).spread
            after += gain * guess(inside, at, motion.memory).spread
            total += gain
        return motion.speed * (after + before * total)

    def evaluations(
        self, step: int, motion: Motion | None, nodes: Sequence[float], before: int, tolerance: float
    ) -> int:
        """How many evaluations follow that of `step` under `tolerance`, if x0 goes on moving as it did."""
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
        """The least tolerance, near enough, under which no more than `evaluations` follow that of `step`.

        Found by bisection around `first`, in the logarithm.
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
    """How much an error of x0 at each step moves the final sample, up to a factor.

    As the noise-to-signal ratio falls from s to s', x/alpha takes in (1 - s'/s) x0. Below s = 1 that stays; above,
    the noise hides x from the network and it fades, here with the root of s (see docs/sada.md for what was measured).
    """
    following = [*ratios[1:], 0.0]
    return [(1 - after / ratio) / max(1.0, ratio) ** 0.5 for ratio, after in zip(ratios, following, strict=True)]
