"""Grids: the points of a schedule that a solver visits."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from torch import Tensor

from .schedule import Schedule

Numbers = Sequence[float] | np.ndarray | Tensor
PURE_NOISE: Final = 1e-6
"""alpha / sigma below which a point counts as pure noise: x contains no signal that float32 could hold."""


def _float64(values: Numbers) -> Tensor:
    """Copies numbers into a float64 tensor."""
    return torch.as_tensor(np.asarray(values, dtype=np.float64).copy())


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


@dataclass(frozen=True, eq=False)
class Grid:
    """N+1 points of a schedule, noisiest first, with N steps between them.

    Construct with `Grid.from_t` or `Grid.from_sigma_ve`. All tensors are float64.

    Attributes:
        schedule: the noise schedule.
        t: (N+1,), times, strictly falling.
        alpha: (N+1,), signal coefficients.
        sigma: (N+1,), noise coefficients, above 0 except possibly the last.
        timestep: (N,), the network's timestep at the first N points.
        start_scale: a trajectory starts at `start_scale` times unit-normal noise.
        between: maps a time between grid points to the network's timestep; None uses the schedule's own, which is
            allowed if the timesteps at the grid points are the schedule's own up to its `timestep_unit` (rounding).

    Raises:
        ValueError: if there are fewer than two points, if times do not fall strictly, if shapes do not match, or if a
            timestep is not finite.
    """

    schedule: Schedule
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    timestep: Tensor
    start_scale: float
    between: Callable[[float], float] | None = None

    def __post_init__(self) -> None:
        if self.t.ndim != 1 or self.t.numel() < 2:
            raise ValueError(f"a grid needs at least two points (one step), got t of shape {tuple(self.t.shape)}")
        if not bool(torch.isfinite(self.t).all()) or not bool((self.t.diff() < 0).all()):
            raise ValueError(f"the times of a grid must be finite and fall strictly, got t = {self.t.tolist()}")
        if self.timestep.shape != self.t[:-1].shape:
            raise ValueError(f"a grid needs one timestep per step ({self.n_steps}), got {self.timestep.numel()}")
        if not bool(torch.isfinite(self.timestep).all()):
            raise ValueError(f"the timesteps of a grid must be finite, got {self.timestep.tolist()}")
        if not bool((self.sigma[:-1] > 0).all()):
            raise ValueError("sigma must be above 0 at every point of a grid but the last")

    @classmethod
    def from_t(
        cls,
        schedule: Schedule,
        t: Numbers,
        timestep: Numbers | None = None,
        start_scale: float | None = None,
        between: Callable[[float], float] | None = None,
    ) -> "Grid":
        """Builds the grid through given times.

        Args:
            schedule: the noise schedule.
            t: (N+1,), times, strictly falling.
            timestep: (N,), the network's timesteps; defaults to the schedule's own.
            start_scale: defaults to sigma at the first point, which omits the term alpha x0 of the marginal there.
            between: see `Grid`; needed by solvers that evaluate between points if `timestep` is not the schedule's own.

        Raises:
            ValueError: if t does not fall strictly.
        """
        times = _float64(t)
        sigma = schedule.sigma(times)
        timesteps = schedule.timestep(times[:-1]) if timestep is None else _float64(timestep)
        scale = float(sigma[0]) if start_scale is None else start_scale
        return cls(schedule, times, schedule.alpha(times), sigma, timesteps, scale, between)

    @classmethod
    def from_sigma_ve(
        cls,
        schedule: Schedule,
        ratios: Numbers,
        timestep: Numbers | None = None,
        start_scale: float | None = None,
        between: Callable[[float], float] | None = None,
    ) -> "Grid":
        """Builds the grid through given noise-to-signal ratios.

        Args:
            schedule: the noise schedule.
            ratios: (N+1,), sigma/alpha, strictly falling; the last may be 0 (clean data).
            timestep: as in `from_t`.
            start_scale: as in `from_t`.
            between: as in `from_t`.
        """
        return cls.from_t(schedule, schedule.t_from_log_snr(-_float64(ratios).log()), timestep, start_scale, between)

    def node(self, point: Point) -> Node:
        """Returns the node at a point between grid points, with its timestep from `between`.

        Raises:
            ValueError: if `between` is None and the timesteps at the grid points are not the schedule's own.
        """
        if self.between is not None:
            return Node(point.t, point.alpha, point.sigma, self.between(point.t))
        if self._foreign_timestep is not None:
            given, own = self._foreign_timestep
            raise ValueError(
                f"the solver evaluates between the points of the grid, whose timesteps are not the schedule's own "
                f"({given:.6g} for {own:.6g}): construct the grid with between=, a function from t to the timestep"
            )
        return Node(point.t, point.alpha, point.sigma, float(self.schedule.timestep(point.t)))

    @cached_property
    def _foreign_timestep(self) -> tuple[float, float] | None:
        """(timestep, schedule's timestep) where they differ most, or None if they differ by rounding alone."""
        own = self.schedule.timestep(self.t[:-1])
        excess = (self.timestep - own).abs() - 1e-6 * (1 + own.abs()) - getattr(self.schedule, "timestep_unit", 0.0)
        worst = int(excess.argmax())
        return (float(self.timestep[worst]), float(own[worst])) if float(excess[worst]) > 0 else None

    @property
    def n_steps(self) -> int:
        """Number of steps N."""
        return self.t.numel() - 1

    @cached_property
    def log_snr(self) -> Tensor:
        """log(alpha / sigma), (N+1,), rising; +inf at the end of a grid that ends on clean data."""
        return self.alpha.log() - self.sigma.log()

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All N+1 points as Python numbers."""
        columns = (self.t.tolist(), self.alpha.tolist(), self.sigma.tolist())
        return tuple(Point(*row) for row in zip(*columns, strict=True))

    @cached_property
    def noise_points(self) -> int:
        """Number of points of pure noise, which come first."""
        return sum(point.pure_noise for point in self.points)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The first N points as Python numbers, with their timesteps."""
        columns = (self.t[:-1], self.alpha[:-1], self.sigma[:-1], self.timestep)
        return tuple(Node(*row) for row in zip(*(column.tolist() for column in columns), strict=True))
