"""Grids: the points of a schedule that a solver visits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .drawing import grid_html
from .points import PURE_NOISE, Node, Point, point_at
from .schedule import Schedule

__all__ = ["PURE_NOISE", "Grid", "Node", "Point", "point_at"]

Numbers = Sequence[float] | np.ndarray | Tensor

def _float64(values: Numbers) -> Tensor:
    """Copies numbers into a float64 tensor."""
    return torch.as_tensor(np.asarray(values, dtype=np.float64).copy())


@dataclass(frozen=True, eq=False)
class Grid:
    """N+1 points of a schedule, noisiest first, with N steps between them.

    Construct with `Grid.from_t` or `Grid.from_sigma_ve`. All tensors are float64. The times of a rising grid lead from
    data to noise (inversion); solvers that draw noise refuse it.

    Attributes:
        schedule: the noise schedule.
        t: (N+1,), times, strictly falling or strictly rising.
        alpha: (N+1,), signal coefficients.
        sigma: (N+1,), noise coefficients, above 0 except possibly the last of falling times.
        timestep: (N,), the network's timestep at the first N points.
        start_scale: a trajectory starts at `start_scale` times unit-normal noise.
        between: maps a time between grid points to the network's timestep; None uses the schedule's own, which is
            allowed if the timesteps at the grid points are the schedule's own up to its `timestep_unit` (rounding).
        planned_steps: number of steps of the grid that this is a part of; None if it is not a part. Rules for runs of
            few steps (`lower_order_final`) go by it, as published for runs that begin in the middle.

    Raises:
        ValueError: if there are fewer than two points, if times neither fall nor rise strictly, if a point but the last
            has sigma 0, if shapes do not match, or if a timestep is not finite.
    """

    schedule: Schedule
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    timestep: Tensor
    start_scale: float
    between: Callable[[float], float] | None = None
    planned_steps: int | None = None

    def __repr__(self) -> str:
        ratio = (self.sigma / self.alpha)[[0, -1]].tolist()
        times = f"t {float(self.t[0]):.4g} to {float(self.t[-1]):.4g}"
        return f"Grid({self.schedule}, {self.n_steps} steps, {times}, sigma/alpha {ratio[0]:.4g} to {ratio[1]:.4g})"

    def _repr_html_(self) -> str:
        return grid_html(self)

    def __post_init__(self) -> None:
        if self.t.ndim != 1 or self.t.numel() < 2:
            raise ValueError(f"a grid needs at least two points (one step), got t of shape {tuple(self.t.shape)}")
        gaps = self.t.diff()
        if not bool(torch.isfinite(self.t).all()) or not (bool((gaps < 0).all()) or bool((gaps > 0).all())):
            raise ValueError(
                "the times of a grid must be finite and fall strictly (or rise strictly, for inversion), got "
                f"t = {self.t.tolist()}"
            )
        if self.timestep.shape != self.t[:-1].shape:
            raise ValueError(f"a grid needs one timestep per step ({self.n_steps}), got {self.timestep.numel()}")
        if not bool(torch.isfinite(self.timestep).all()):
            raise ValueError(f"the timesteps of a grid must be finite, got {self.timestep.tolist()}")
        if self.rises and not float(self.sigma[0]) > 0:
            raise ValueError(
                f"a rising grid must begin above clean data, where eps is defined, got t = {float(self.t[0]):g} with "
                "sigma = 0; begin at the last time of a falling grid before its end"
            )
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
            t: (N+1,), times, strictly falling; strictly rising for inversion.
            timestep: (N,), the network's timesteps; defaults to the schedule's own.
            start_scale: defaults to sigma at the first point, which omits the term alpha x0 of the marginal there; on a
                rising grid to 1, so that a run starts from the state itself.
            between: see `Grid`; needed by solvers that evaluate between points if `timestep` is not the schedule's own.

        Raises:
            ValueError: if t neither falls nor rises strictly.
        """
        times = _float64(t)
        sigma = schedule.sigma(times)
        timesteps = schedule.timestep(times[:-1]) if timestep is None else _float64(timestep)
        scale = (float(sigma[0]) if times[-1] < times[0] else 1.0) if start_scale is None else start_scale
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
            ratios: (N+1,), sigma/alpha, strictly falling; the last may be 0 (clean data). Or strictly rising.
            timestep: as in `from_t`.
            start_scale: as in `from_t`.
            between: as in `from_t`.
        """
        return cls.from_t(schedule, schedule.t_from_log_snr(-_float64(ratios).log()), timestep, start_scale, between)

    def part(self, first: int, last: int | None = None, start_scale: float | None = None) -> "Grid":
        """Returns the grid from one of its points to another, for runs that begin or end in the middle.

        Args:
            first: index of the first point, 0 to N-1.
            last: index of the last point, above `first`; None is the end.
            start_scale: None starts a run from the state itself (1), or, if `first` is 0, as this grid does.

        Raises:
            ValueError: if the indices leave no step.
        """
        end = self.n_steps if last is None else last
        if not 0 <= first < end <= self.n_steps:
            raise ValueError(
                f"part({first}, {last}) of a grid of {self.n_steps} steps: first and last must satisfy "
                f"0 <= first < last <= {self.n_steps}"
            )
        scale = (1.0 if first else self.start_scale) if start_scale is None else start_scale
        points, steps = slice(first, end + 1), slice(first, end)
        cut = (self.t[points], self.alpha[points], self.sigma[points], self.timestep[steps])
        return Grid(self.schedule, *cut, scale, self.between, self.run_steps)

    def require_falling(self, solver: str, reason: str) -> None:
        """Raises ValueError if times rise.

        Args:
            solver: name of the solver that needs falling times.
            reason: why it does.
        """
        if self.rises:
            raise ValueError(
                f"{solver} cannot follow a rising grid, from data to noise: {reason}; use a deterministic solver such "
                "as 'euler', 'heun' or 'dpmpp2m'"
            )

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

    @property
    def run_steps(self) -> int:
        """Number of steps of the whole run: of the grid that this is a part of, if it is one."""
        return self.n_steps if self.planned_steps is None else self.planned_steps

    @property
    def rises(self) -> bool:
        """Whether times rise, from data to noise."""
        return float(self.t[0]) < float(self.t[-1])

    @property
    def noisiest(self) -> Point:
        """The point of the most noise: the first, or on a rising grid the last."""
        return self.points[-1 if self.rises else 0]

    @cached_property
    def log_snr(self) -> Tensor:
        """log(alpha / sigma), (N+1,); it rises as times fall, to +inf at the end of a grid that ends on clean data."""
        return self.alpha.log() - self.sigma.log()

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All N+1 points as Python numbers."""
        columns = (self.t.tolist(), self.alpha.tolist(), self.sigma.tolist())
        return tuple(Point(*row) for row in zip(*columns, strict=True))

    @cached_property
    def noise_points(self) -> int:
        """Number of points of pure noise at the start."""
        return next((index for index, point in enumerate(self.points) if not point.pure_noise), len(self.points))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The first N points as Python numbers, with their timesteps."""
        columns = (self.t[:-1], self.alpha[:-1], self.sigma[:-1], self.timestep)
        return tuple(Node(*row) for row in zip(*(column.tolist() for column in columns), strict=True))
