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
    """Strategic stochastic sampling (Zheng et al. 2024, arXiv 2402.19159, Algorithm 4).

    Each step goes down to time s = (1 - gamma) t' by DDIM, then forward to t' by fresh noise. On a noise table whole
    times t' give whole times s, rounded down. gamma = 0 is DDIM; gamma = 1 draws all noise anew at every step.

    With gamma > 0 it needs a network that was distilled to predict the trajectory: the DDIM jump does not shrink with
    the step, so with other networks the samples do not converge, which is what `order` 0 says.

    Args:
        gamma: Share of the time to go back, in [0, 1].
    """

    gamma: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"TCD.gamma must lie between 0 and 1, got {self.gamma}")

    @property
    def order(self) -> int:
        return 1 if self.gamma == 0 else 0

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return tuple(self._update(start, end) for start, end in pairwise(self.grid.points))

    def _update(self, start: Point, end: Point) -> Update:
        target = self._target(end)
        down = first_order(start, target)
        scale = end.alpha / target.alpha
        noise = math.sqrt(max(end.sigma**2 - (scale * target.sigma) ** 2, 0.0))
        weights = tuple(scale * weight for weight in down.weights)
        return Update(scale * down.keep, weights, noise=noise, span=(start.noise_fraction, end.noise_fraction))

    def _target(self, end: Point) -> Point:
        """The point at s, `end` itself where nothing is to be gone back."""
        schedule = self.grid.schedule
        if self.gamma == 0 or end.t <= max(schedule.t_min, 0.0):
            return end
        s = (1 - self.gamma) * end.t
        if isinstance(schedule, VPDiscrete) and end.t.is_integer():
            # In float32, as published: the product of 0.7 and a multiple of 10 may fall on either side of its floor.
            s = math.floor(np.float32(1 - self.gamma) * np.float32(end.t))
        return point_at(schedule, s)
