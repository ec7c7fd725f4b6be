"""The interface of solvers: immutable objects over a grid, whose state is passed in and out of a pure `step`.

The same loop runs every solver:

    state = solver.start(noise)
    while state.step < solver.n_evals:
        x0 = denoise(state.x, state.step)
        state = solver.step(state, x0)
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from .drawing import solver_html
from .grid import Grid, Node, Point


@dataclass(frozen=True)
class State:
    """State of a trajectory between two evaluations.

    Attributes:
        x: (B, ...), where the network is evaluated next.
        step: index of that evaluation.
        history: past outputs (B, ...), newest first, as many as the solver needs.
        anchor: (B, ...), x at the start of the current step, for solvers that evaluate inside a step.
    """

    x: Tensor
    step: int = 0
    history: tuple[Tensor, ...] = ()
    anchor: Tensor | None = None


class Solver(Protocol):
    """Interface of every solver; states x (B, ...) are unscaled, x = alpha x0 + sigma eps."""

    @property
    def grid(self) -> Grid:
        """The points that the trajectory visits."""
        ...

    @property
    def order(self) -> int:
        """Order of convergence of the global error, if the first steps are equally accurate."""
        ...

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Points at which the network is evaluated, in order."""
        ...

    @property
    def n_evals(self) -> int:
        """Number of evaluations of a whole trajectory, `len(nodes)`."""
        ...

    def start(self, noise: Tensor) -> State:
        """Returns the state at evaluation 0 for unit-normal noise (B, ...)."""
        ...

    def step(self, state: State, x0: Tensor) -> State:
        """Returns the next state for the network's x0 (B, ...) at `state.x`; changes neither argument."""
        ...

    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        """Returns dx/dt of the probability-flow ODE at evaluation `step`, shaped as x."""
        ...


@dataclass(frozen=True, eq=False)
class GridSolver(ABC):
    """Base class of the solvers in this package: takes start and velocity from the grid.

    A subclass defines `order` and `step`, and overrides `nodes` to evaluate between grid points.

    Attributes:
        grid: the points that the trajectory visits.
    """

    grid: Grid

    def _repr_html_(self) -> str:
        return solver_html(self)

    @property
    @abstractmethod
    def order(self) -> int:
        """Order of convergence of the global error, if the first steps are equally accurate."""

    @abstractmethod
    def step(self, state: State, x0: Tensor) -> State:
        """Returns the next state for the network's x0 (B, ...) at `state.x`; changes neither argument."""

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Points at which the network is evaluated, in order; by default all grid points but the last."""
        return self.grid.nodes

    @property
    def n_evals(self) -> int:
        """Number of evaluations of a whole trajectory, `len(nodes)`."""
        return len(self.nodes)

    def start(self, noise: Tensor) -> State:
        """Returns the state at evaluation 0: x is `noise` (B, ...) times the grid's `start_scale`."""
        return State(noise * self.grid.start_scale)

    @cached_property
    def _rates(self) -> tuple[tuple[float, float], ...]:
        """(alpha'(t), sigma'(t)) at every node."""
        times = torch.tensor([node.t for node in self.nodes], dtype=torch.float64)
        schedule = self.grid.schedule
        return tuple(zip(schedule.d_alpha(times).tolist(), schedule.d_sigma(times).tolist(), strict=True))

    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        """Returns y = alpha'(t) x0 + sigma'(t) eps at evaluation `step`, with eps = (x - alpha x0) / sigma.

        Args:
            x: (B, ...), state at the node.
            x0: (B, ...), the network's x0 at x.
            step: index of the evaluation.
        """
        return velocity_at(self.nodes[step], self._rates[step], x, x0)


def velocity_at(point: Point, rates: tuple[float, float], x: Tensor, x0: Tensor) -> Tensor:
    """Returns y = alpha'(t) x0 + sigma'(t) eps at a point with sigma > 0.

    Args:
        point: the point.
        rates: (alpha'(t), sigma'(t)) at the point.
        x: (B, ...), state at the point.
        x0: (B, ...), the network's x0 at x.
    """
    rate = rates[1] / point.sigma
    return rate * x + (rates[0] - rate * point.alpha) * x0
