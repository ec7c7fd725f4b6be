"""Trajectory consistency sampling."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from .grid import Point, point_at
from .linear import NoisySolver, Update, first_order
from .vp_discrete import VPDiscrete


@dataclass(frozen=True, eq=False)
class TCD(NoisySolver):
    """Strategic stochastic sampling: DDIM below the next time, then noise forward to it.

        x_s = alpha_s x0 + sigma_s eps,    s = (1 - gamma) t'
        x'  = (alpha' / alpha_s) x_s + sqrt(sigma'^2 - (alpha' sigma_s / alpha_s)^2) z

    On a noise table, integer times t' give integer times s, rounded down. gamma = 0 is DDIM; gamma = 1 draws all noise
    anew at every step. With gamma > 0 the network must be distilled to predict the trajectory: the jump to s does not
    shrink with the step, so with other networks samples do not converge; `order` is then 0.

    Source: Zheng et al. 2024, arXiv 2402.19159, Algorithm 4.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source.
        gamma: fraction of the time to go below the next one, in [0, 1].

    Raises:
        ValueError: if `gamma` is outside [0, 1].
    """

    gamma: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"TCD.gamma must lie between 0 and 1, got {self.gamma}")
        self._require_falling(self.gamma > 0)

    @property
    def order(self) -> int:
        """1 for gamma = 0 (DDIM), otherwise 0 (no convergence)."""
        return 1 if self.gamma == 0 else 0

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        return tuple(self._update(start, end) for start, end in pairwise(self.grid.points))

    def _update(self, start: Point, end: Point) -> Update:
        target = self._target(end)
        down = first_order(start, target)
        scale = end.alpha / target.alpha
        noise = math.sqrt(max(end.sigma**2 - (scale * target.sigma) ** 2, 0.0))
        weights = tuple(scale * weight for weight in down.weights)
        return Update(scale * down.keep, weights, noise=noise, span=(start.noise_fraction, end.noise_fraction))

    def _target(self, end: Point) -> Point:
        """Returns the point at time s, which is `end` itself if gamma is 0 or no time is left."""
        schedule = self.grid.schedule
        if self.gamma == 0 or end.t <= max(schedule.t_min, 0.0):
            return end
        s = (1 - self.gamma) * end.t
        if isinstance(schedule, VPDiscrete) and end.t.is_integer():
            # In float32, as published: rounding decides on which side of an integer 0.7 times a multiple of 10 falls.
            s = math.floor(np.float32(1 - self.gamma) * np.float32(end.t))
        return point_at(schedule, s)
