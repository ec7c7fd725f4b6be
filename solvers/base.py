"""What a solver is: an immutable object over a grid, with its state passed in and out of a pure `step`.

One loop serves every solver:

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

from .grid import Grid, Node, Point


@dataclass(frozen=True)
class State:
    """Where a trajectory stands. `x` is the point to evaluate next, `step` the index of that evaluation.

    `history` holds past answers, newest first, as many as the solver needs; `anchor` is x at the start of the present
    interval, for solvers that evaluate inside one.
    """

    x: Tensor
    step: int = 0
    history: tuple[Tensor, ...] = ()
    anchor: Tensor | None = None


class Solver(Protocol):
    """The interface of every solver. x is (B, ...) in the schedule's frame x = alpha x0 + sigma eps."""

    @property
    def grid(self) -> Grid: ...

    @property
    def order(self) -> int:
        """Order of convergence of the global error, given a start that is as good."""
        ...

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The points at which the network is evaluated, in order."""
        ...

    @property
    def n_evals(self) -> int:
        """Evaluations of a whole trajectory, `len(nodes)`."""
        ...

    def start(self, noise: Tensor) -> State:
        """The state at evaluation 0, from unit-normal noise."""
        ...

    def step(self, state: State, x0: Tensor) -> State:
        """The next state, given the network's x0 at `state.x`. Pure: neither argument changes."""
        ...

    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        """dx/dt of the probability-flow ODE at evaluation `step`."""
        ...


@dataclass(frozen=True, eq=False)
class GridSolver(ABC):
    """Base of the solvers here: start and velocity from the grid; a subclass adds `order` and `step`."""

    grid: Grid

    @property
    @abstractmethod
    def order(self) -> int:
        """Order of convergence of the global error, given a start that is as good."""

    @abstractmethod
    def step(self, state: State, x0: Tensor) -> State:
        """The next state, given the network's x0 at `state.x`. Pure: neither argument changes."""

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return self.grid.nodes

    @property
    def n_evals(self) -> int:
        return len(self.nodes)

    def start(self, noise: Tensor) -> State:
        return State(noise * self.grid.start_scale)

    @cached_property
    def _rates(self) -> tuple[tuple[float, float], ...]:
        times = torch.tensor([node.t for node in self.nodes], dtype=torch.float64)
        schedule = self.grid.schedule
        return tuple(zip(schedule.d_alpha(times).tolist(), schedule.d_sigma(times).tolist(), strict=True))

    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        """y = alpha'(t) x0 + sigma'(t) eps with eps = (x - alpha x0) / sigma."""
        return velocity_at(self.nodes[step], self._rates[step], x, x0)


def velocity_at(point: Point, rates: tuple[float, float], x: Tensor, x0: Tensor) -> Tensor:
    """dx/dt at a point with rates (alpha'(t), sigma'(t)), for the network's x0 at x. Needs sigma > 0."""
    rate = rates[1] / point.sigma
    return rate * x + (rates[0] - rate * point.alpha) * x0
