"""What leaving out evaluations is predicted to cost, from divided differences of x0 in log-SNR."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from sadaflow.solvers import Solver

_LOWEST, _HIGHEST = 1e-12, 1e6  # of a tolerance: below, everything is evaluated, above, as little as may be


@dataclass(frozen=True)
class Gap:
    """`skips` evaluations left out, x0 extrapolated with `degree`, and the predicted error of the final sample."""

    skips: int
    degree: int
    error: float


@dataclass(frozen=True)
class Gaps:
    """The steps of one run: log-SNR of each, how much an error of x0 there moves the final sample, the longest gap."""

    log_snr: Sequence[float]
    gains: Sequence[float]
    max_skips: int

    @classmethod
    def of(cls, solver: Solver, max_skips: int) -> Self:
        ratios = [node.sigma / node.alpha if node.alpha else math.inf for node in solver.nodes]
        return cls([node.log_snr for node in solver.nodes], gains(ratios), max_skips)

    def tried(
        self, step: int, constants: Mapping[int, float], nodes: Sequence[float], before: int, tolerance: float
    ) -> list[Gap]:
        """Longer and longer gaps after the evaluation of `step`, to the first whose error exceeds `tolerance`.

        `constants` are the divided differences of x0 that the degrees leave out, `nodes` the log-SNR of the
        evaluations made, newest first, and `before` the skips of the gap before, of which this one has at most one
        more: a prediction is trusted as far as it has proved itself. The last two steps are evaluated.
        """
        tried = []
        for skips in range(1, min(self.max_skips, before + 1, len(self.log_snr) - 3 - step) + 1):
            gap = min(
                (Gap(skips, degree, self.error(step, skips, degree, constants[degree], nodes)) for degree in constants),
                key=lambda one: one.error,
                default=Gap(skips, 1, math.inf),
            )
            tried.append(gap)
            if gap.error > tolerance:
                break
        return tried

    def error(self, step: int, skips: int, degree: int, constant: float, nodes: Sequence[float]) -> float:
        """Predicted change of the final sample by skipping `skips` steps after `step` with a polynomial of `degree`.

        What remains is the interpolation error of the replayed steps, and the error of the next true x0, which the
        network gives at the extrapolated state.
        """
        outside = nodes[: degree + 1]
        inside = [self.log_snr[step + skips + 1], *nodes][: degree + 1]
        before = after = total = 0.0
        for k in range(step + 1, step + skips + 1):
            at, gain = self.log_snr[k], self.gains[k]
            before += gain * distance(at, outside)
            after += gain * distance(at, inside)
            total += gain
        return constant * (after + before * total)

    def evaluations(
        self, step: int, constants: Mapping[int, float], nodes: Sequence[float], before: int, tolerance: float
    ) -> int:
        """How many evaluations follow that of `step` under `tolerance`, if the divided differences stay as they are."""
        count, past = 0, list(nodes)
        while step < len(self.log_snr) - 1:
            within = [gap for gap in self.tried(step, constants, past, before, tolerance) if gap.error <= tolerance]
            before = within[-1].skips if within else 0
            step += 1 + before
            past = [self.log_snr[step], *past][: len(nodes)]
            count += 1
        return count

    def tolerance_for(
        self,
        step: int,
        constants: Mapping[int, float],
        nodes: Sequence[float],
        before: int,
        evaluations: float,
        guess: float,
    ) -> float:
        """The least tolerance, near enough, under which no more than `evaluations` follow that of `step`.

        Found by bisection around `guess`, in the logarithm.
        """

        def made(tolerance: float) -> int:
            return self.evaluations(step, constants, nodes, before, tolerance)

        count = made(guess)
        if count == int(evaluations):
            return guess
        low, high = guess, guess
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


def distance(at: float, nodes: Sequence[float]) -> float:
    """prod |at - node|, by which a divided difference becomes an interpolation error."""
    return math.prod(abs(at - node) for node in nodes)


def gains(ratios: Sequence[float]) -> list[float]:
    """How much an error of x0 at each step moves the final sample, up to a factor.

    As the noise-to-signal ratio falls from s to s', x/alpha takes in (1 - s'/s) x0. Below s = 1 that stays; above,
    the noise hides x from the network and it fades, here with the root of s (see docs/sada.md for what was measured).
    """
    following = [*ratios[1:], 0.0]
    return [(1 - after / ratio) / max(1.0, ratio) ** 0.5 for ratio, after in zip(ratios, following, strict=True)]
