"""A solver on a part of its grid: from a later point on, or up to an earlier one."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, cast

from torch import Tensor

from .base import Solver, State
from .grid import Grid, Node


def from_point(solver: Solver, first: int) -> Solver:
    """Returns the solver on the later part of its grid, which begins at x itself (`start_scale` 1).

    A multistep method begins afresh there. What it decides by the number of steps, it decides by that of the whole
    grid, as published.

    Args:
        solver: a dataclass with a field `grid`, as all solvers of this package are.
        first: index of the grid point to begin at, below the number of steps.

    Raises:
        ValueError: if `first` is out of range, or the solver cannot be built anew on another grid.
    """
    return on_grid(solver, solver.grid.part(first, start_scale=1.0))


def up_to_point(solver: Solver, last: int) -> Solver:
    """Returns the solver with the same steps, of which the first `last` are taken.

    Args:
        solver: a dataclass with a field `grid`.
        last: index of the grid point to end at, above 0.

    Raises:
        ValueError: if `last` is out of range, or the solver cannot be built anew on another grid.
    """
    grid = solver.grid
    if last == grid.n_steps:
        return solver
    front = grid.part(0, last)
    return Ended(solver, front, on_grid(solver, front).n_evals)


@dataclass(frozen=True, eq=False)
class Ended:
    """A solver that ends before its grid does, with the steps that it takes on the whole grid.

    Attributes:
        solver: the solver on the whole grid.
        grid: the points that are visited.
        n_evals: number of evaluations that are made.
    """

    solver: Solver
    grid: Grid
    n_evals: int

    @property
    def order(self) -> int:
        """Order of convergence of the solver."""
        return self.solver.order

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Points at which the network is evaluated, in order."""
        return self.solver.nodes[: self.n_evals]

    def start(self, noise: Tensor) -> State:
        """Returns the state at evaluation 0 for unit-normal noise (B, ...)."""
        return self.solver.start(noise)

    def step(self, state: State, x0: Tensor) -> State:
        """Returns the next state for the network's x0 (B, ...) at `state.x`."""
        return self.solver.step(state, x0)

    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        """Returns dx/dt of the probability-flow ODE at evaluation `step`, shaped as x."""
        return self.solver.velocity(x, x0, step)


def evaluations_to(solver: Solver) -> tuple[int, ...]:
    """Returns the number of evaluations up to each grid point but the first."""
    fronts = [solver.grid.part(0, last) for last in range(1, solver.grid.n_steps)]
    return (*(on_grid(solver, front).n_evals for front in fronts), solver.n_evals)


def on_grid(solver: Solver, grid: Grid) -> Solver:
    """Returns the solver built anew on another grid."""
    names: Sequence[str] = [item.name for item in fields(solver) if item.init] if is_dataclass(solver) else ()
    if "grid" not in names:
        raise ValueError(
            f"{type(solver).__name__} cannot begin or end within its grid: it is not a dataclass with a field grid; "
            "construct it over a grid of the points wanted"
        )
    anew: Solver = replace(cast(Any, solver), grid=grid)
    return anew
