"""Euler's method, which is DDIM, and its ancestral form."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from .grid import Point
from .linear import LinearSolver, NoisySolver, Update, first_order


@dataclass(frozen=True, eq=False)
class Euler(LinearSolver):
    """Euler's method on the probability-flow ODE, identical to DDIM.

        x' = alpha' x0 + sigma' eps

    It is Euler's method in sigma/alpha, the first-order DPM-Solver, and on rectified flow Euler's method in t.

    Source: Song et al. 2020, arXiv 2010.02502, eq. 12 with eta = 0.
    """

    order: ClassVar[int] = 1

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        return tuple(first_order(start, end) for start, end in pairwise(self.grid.points))


def ancestral_split(start: Point, end: Point, eta: float) -> tuple[float, float]:
    """Splits sigma at `end` into fresh noise and remaining noise, sigma' = sqrt(up^2 + down^2).

    With r = sigma/alpha, up / alpha' is min(r', eta sqrt(r'^2 - r'^4/r^2)). Both are in the scale of x, so alpha = 0
    needs no special case.

    Returns:
        (up, down): standard deviations of the fresh noise and of what remains of the noise at `start`.
    """
    if eta == 0:
        return 0.0, end.sigma
    left = math.sqrt(-math.expm1(2 * (start.log_snr - end.log_snr)))
    up = end.sigma * min(1.0, eta * left) if left else 0.0
    return up, math.sqrt(end.sigma**2 - up**2)


@dataclass(frozen=True, eq=False)
class EulerAncestral(NoisySolver):
    """Euler's method to a lower noise level, then fresh noise back up to the grid's level.

        x' = alpha' x0 + down eps + up z,    up^2 + down^2 = sigma'^2
        up / alpha' = min(r', eta sqrt(r'^2 - r'^4/r^2)),    r = sigma/alpha

    eta = 1 is DDPM and the ancestral Euler of k-diffusion, eta = 0 is Euler, eta = inf replaces all noise at every
    step. The order is that of the mean and covariance of the samples.

    Source: Song et al. 2020, arXiv 2010.02502, eq. 16.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source.
        eta: scale of the fresh noise, 0 or more.

    Raises:
        ValueError: if `eta` is negative.
    """

    eta: float = 1.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.eta >= 0:
            raise ValueError(f"EulerAncestral.eta must be 0 or more, got {self.eta}")
        self._require_falling(self.eta > 0)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        updates = []
        for start, end in pairwise(self.grid.points):
            up, down = ancestral_split(start, end, self.eta)
            keep = down / start.sigma
            span = (start.noise_fraction, end.noise_fraction)
            updates.append(Update(keep, (end.alpha - keep * start.alpha,), noise=up, span=span))
        return tuple(updates)
