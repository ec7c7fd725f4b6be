"""Euler, which is DDIM, and its ancestral form."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from .grid import Point
from .linear import LinearSolver, NoisySolver, Update, first_order


@dataclass(frozen=True, eq=False)
class Euler(LinearSolver):
    """x' = alpha' x0 + sigma' eps: DDIM (Song et al. 2020, arXiv 2010.02502, eq. 12 with eta = 0).

    It is Euler's method in sigma/alpha, the first-order DPM-Solver, and on rectified flow the plain Euler step.
    """

    order: ClassVar[int] = 1

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return tuple(first_order(start, end) for start, end in pairwise(self.grid.points))


def ancestral_split(start: Point, end: Point, eta: float) -> tuple[float, float]:
    """sigma at `end` as sqrt(up^2 + down^2): fresh noise, and what is left of the noise at `start`.

    With r = sigma/alpha, up / alpha' is min(r', eta sqrt(r'^2 - r'^4/r^2)). Both are in the scale of x, so that
    alpha = 0 is not a special case.
    """
    left = math.sqrt(-math.expm1(2 * (start.log_snr - end.log_snr)))
    up = end.sigma * min(1.0, eta * left) if left else 0.0
    return up, math.sqrt(end.sigma**2 - up**2)


@dataclass(frozen=True, eq=False)
class EulerAncestral(NoisySolver):
    """Euler to a lower noise level, then fresh noise back up to the grid's (Song et al. 2020, eq. 16).

    In r = sigma/alpha, the noise added has standard deviation min(r', eta sqrt(r'^2 - r'^4/r^2)): eta = 1 is DDPM and
    the ancestral Euler of k-diffusion, eta = 0 Euler, eta = inf replaces all noise at every step. The order is that of
    the mean and covariance it reaches.
    """

    eta: float = 1.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.eta >= 0:
            raise ValueError(f"EulerAncestral.eta must be 0 or more, got {self.eta}")

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        updates = []
        for start, end in pairwise(self.grid.points):
            up, down = ancestral_split(start, end, self.eta)
            keep = down / start.sigma
            span = (start.noise_fraction, end.noise_fraction)
            updates.append(Update(keep, (end.alpha - keep * start.alpha,), noise=up, span=span))
        return tuple(updates)
