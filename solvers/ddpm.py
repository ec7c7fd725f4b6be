"""DDPM: ancestral sampling of the learned reverse process."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, Final

from .clipped import ClippedSolver
from .euler import EulerAncestral
from .grid import Point
from .linear import Update

VARIANCES: Final = ("fixed_small", "fixed_large")


@dataclass(frozen=True, eq=False)
class DDPM(ClippedSolver):
    """Ancestral sampling on any schedule.

        x' = E[x' | x, x0] + s z

    The mean is that of the posterior q(x' | x, x0), eq. 7 of the paper; s is set by `variance`. A step that ends on
    clean data draws no noise.

    Source: Ho et al. 2020, arXiv 2006.11239, Algorithm 2.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source.
        clip: largest |x0|; None disables clipping.
        variance: "fixed_small" is the variance of the posterior (identical to `EulerAncestral` with eta = 1);
            "fixed_large" is that of the forward step from x' to x, with x scaled to alpha^2 + sigma^2 = 1 (section
            3.2).

    Raises:
        ValueError: if `variance` is unknown or `clip` is not positive.
    """

    variance: str = "fixed_small"
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance not in VARIANCES:
            raise ValueError(f"unknown DDPM.variance {self.variance!r}; known are {', '.join(VARIANCES)}")

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        posterior = EulerAncestral(self.grid).updates
        if self.variance == "fixed_small":
            return posterior
        steps = zip(posterior, pairwise(self.grid.points), strict=True)
        return tuple(replace(update, noise=_forward_spread(*points)) for update, points in steps)


def _signal(point: Point) -> float:
    """alphas_cumprod of a point: the fraction of the variance of x that is signal."""
    return point.alpha**2 / (point.alpha**2 + point.sigma**2)


def _forward_spread(start: Point, end: Point) -> float:
    """Standard deviation of the forward step from `end` to `start`, in the scale of x at `end`; 0 on clean data."""
    if end.sigma == 0:
        return 0.0
    return math.hypot(end.alpha, end.sigma) * math.sqrt(1 - _signal(start) / _signal(end))
