"""Points of a schedule as Python numbers."""

import math
from dataclasses import dataclass
from typing import Final

from .schedule import Schedule

PURE_NOISE: Final = 1e-6
"""alpha / sigma below which a point counts as pure noise: x contains no signal that float32 could hold."""


@dataclass(frozen=True)
class Point:
    """A point of a schedule as Python numbers.

    Attributes:
        t: time.
        alpha: signal coefficient at t.
        sigma: noise coefficient at t.
    """

    t: float
    alpha: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """log(alpha / sigma); -inf where alpha = 0, +inf where sigma = 0."""
        if self.alpha == 0 or self.sigma == 0:
            return math.inf if self.sigma == 0 else -math.inf
        return math.log(self.alpha / self.sigma)

    @property
    def pure_noise(self) -> bool:
        """Whether alpha is 0, or so small that formulas in log-SNR and sigma/alpha lose all digits."""
        return self.alpha <= PURE_NOISE * self.sigma

    @property
    def noise_fraction(self) -> float:
        """Flow time sigma / (alpha + sigma), from 1 (noise) to 0 (data)."""
        return self.sigma / (self.alpha + self.sigma)


def point_at(schedule: Schedule, t: float) -> Point:
    """Returns the point of a schedule at time t."""
    return Point(t, float(schedule.alpha(t)), float(schedule.sigma(t)))


@dataclass(frozen=True)
class Node(Point):
    """A point at which the network is evaluated.

    Attributes:
        timestep: conditions the network.
    """

    timestep: float
