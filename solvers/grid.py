"""Grids: the points of a schedule that a solver visits."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .schedule import Schedule

Numbers = Sequence[float] | np.ndarray | Tensor


def _float64(values: Numbers) -> Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.float64).copy())


@dataclass(frozen=True)
class Point:
    """A point of a grid as plain numbers."""

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
    def noise_fraction(self) -> float:
        """sigma / (alpha + sigma), from 1 (noise) to 0 (data): the time of the rectified flow that x is up to scale."""
        return self.sigma / (self.alpha + self.sigma)


def point_at(schedule: Schedule, t: float) -> Point:
    return Point(t, float(schedule.alpha(t)), float(schedule.sigma(t)))


@dataclass(frozen=True)
class Node(Point):
    """A point at which the network is evaluated; `timestep` is what the network is told."""

    timestep: float


@dataclass(frozen=True, eq=False)
class Grid:
    """N+1 points of a schedule, noisiest first; N steps lie between them. All tensors float64.

    t, alpha, sigma: (N+1,). timestep: (N,), what the network is told at the first N points. A sample starts as
    `start_scale` times unit-normal noise. `between(t)` is the timestep that the network is told at a time between the
    points; None takes the schedule's own, where those at the points are within 1 of it. Build one with `Grid.from_t` or
    `Grid.from_sigma_ve`.
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
            raise ValueError(f"a grid of {self.n_steps} steps needs as many timesteps, got {self.timestep.numel()}")
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
        """The grid through times t (N+1,), falling.

        `timestep` (N,) defaults to the schedule's own, `start_scale` to sigma at the first point, which drops the term
        alpha x0 of the marginal there. `between` is needed by solvers that evaluate between the points, where
        `timestep` is not the schedule's own. Raises ValueError where t does not fall strictly.
        """
        times = _float64(t)
        sigma = schedule.sigma(times)
        told = schedule.timestep(times[:-1]) if timestep is None else _float64(timestep)
        scale = float(sigma[0]) if start_scale is None else start_scale
        return cls(schedule, times, schedule.alpha(times), sigma, told, scale, between)

    @classmethod
    def from_sigma_ve(
        cls,
        schedule: Schedule,
        ratios: Numbers,
        timestep: Numbers | None = None,
        start_scale: float | None = None,
        between: Callable[[float], float] | None = None,
    ) -> "Grid":
        """The grid through noise-to-signal ratios sigma/alpha (N+1,), falling; the last may be 0 (clean data)."""
        return cls.from_t(schedule, schedule.t_from_log_snr(-_float64(ratios).log()), timestep, start_scale, between)

    def node(self, point: Point) -> Node:
        """The node at a point between those of the grid, with the timestep that `between` gives there.

        Raises ValueError without `between` where the timesteps at the grid's points are not the schedule's own.
        """
        if self.between is not None:
            return Node(point.t, point.alpha, point.sigma, self.between(point.t))
        if self._strange is not None:
            given, own = self._strange
            raise ValueError(
                f"the solver evaluates between the points of the grid, whose timesteps are not the schedule's own "
                f"({given:.6g} for {own:.6g}): give the grid between=, the timestep at any t"
            )
        return Node(point.t, point.alpha, point.sigma, float(self.schedule.timestep(point.t)))

    @cached_property
    def _strange(self) -> tuple[float, float] | None:
        """A timestep of the grid that is farther than 1 from the schedule's own, and that; rounding keeps within 1."""
        own = self.schedule.timestep(self.t[:-1])
        off = (self.timestep - own).abs()
        worst = int(off.argmax())
        return (float(self.timestep[worst]), float(own[worst])) if float(off[worst]) > 1 + 1e-6 else None

    @property
    def n_steps(self) -> int:
        return self.t.numel() - 1

    @cached_property
    def log_snr(self) -> Tensor:
        """log(alpha / sigma), (N+1,), rising; +inf at the end of a grid that ends on clean data."""
        return self.alpha.log() - self.sigma.log()

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All N+1 points as plain numbers."""
        columns = (self.t.tolist(), self.alpha.tolist(), self.sigma.tolist())
        return tuple(Point(*row) for row in zip(*columns, strict=True))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The first N points as plain numbers."""
        columns = (self.t[:-1], self.alpha[:-1], self.sigma[:-1], self.timestep)
        return tuple(Node(*row) for row in zip(*(column.tolist() for column in columns), strict=True))
