"""The solver under examination, and what its author says about it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from ..base import Solver, State
from ..grid import Grid
from ..noise import NoiseSource, SeededNoise
from .guard import follow
from .problems import GRIDS, final_x, mixture

Factory = Callable[..., Solver]
Grids = Mapping[str, Callable[[int], Grid]]

SAMPLES: Final = 5


@dataclass(frozen=True)
class Examination:
    """Makes the solvers that the laws measure.

    Attributes:
        factory: `factory(grid)`, or `factory(grid, noise)` for stochastic solvers.
        grids: maps names to functions from a number of steps to a grid.
        schedules: "vp", "edm", "flow": those that laws with grids of their own use; None uses all.
        stochastic: whether `factory` takes a noise source.
        order: expected order of convergence; None is the solver's own.
        band: allowed deviation of a measured order.
        warm_up: evaluations on the true trajectory before an order is measured.
        steps: numbers of steps from which the order is measured; None chooses them by the order.
        ends_at_x0: whether the last step to clean data must return the last x0.
        drift_order: order of a stochastic solver without its noise; None expects 2 if it keeps past outputs, else 1.
        strong_order: order in which a stochastic solver converges to its path; None if it claims none.
        tolerances: replaces the bounds of laws, by name.
        seconds: processor time after which a law ends, and the examination with it.
    """

    factory: Factory
    grids: Grids = field(default_factory=lambda: dict(GRIDS))
    schedules: Sequence[str] | None = None
    stochastic: bool = False
    order: float | None = None
    band: float = 0.2
    warm_up: int = 0
    steps: tuple[int, ...] | None = None
    ends_at_x0: bool = True
    drift_order: float | None = None
    strong_order: float | None = None
    tolerances: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 60.0

    def make(self, grid: Grid, noise: NoiseSource | int | None = None) -> Solver:
        """Makes a solver over `grid`; a stochastic one gets `noise`, a source or the number of samples."""
        if not self.stochastic:
            return self.factory(grid)
        if noise is None or isinstance(noise, int):
            noise = SeededNoise(tuple(range(SAMPLES if noise is None else noise)))
        return self.factory(grid, noise)

    def own(self, grids: Grids) -> dict[str, Callable[[int], Grid]]:
        """Those of the grids whose schedule is chosen; the cosine schedule is variance-preserving."""
        if self.schedules is None:
            return dict(grids)
        families = {name: name.partition("-")[0].replace("cosine", "vp") for name in grids}
        return {name: make for name, make in grids.items() if families[name] in self.schedules}

    def claimed_order(self) -> float:
        """The order that the solver must have."""
        return float(self.make(next(iter(self.grids.values()))(4)).order if self.order is None else self.order)

    def allowed(self, law: str, default: float) -> float:
        """The bound of a law."""
        return self.tolerances.get(law, default)


def data_x0(solver: Solver, state: State) -> Tensor:
    """Returns the mixture's x0 at a state."""
    return mixture().denoiser(solver)(state.x, state.step)


def trajectory(solver: Solver, noise: Tensor) -> list[tuple[State, Tensor, State]]:
    """Runs the mixture from noise (B, 2); returns (state, x0, next state) of every evaluation."""
    return list(follow(solver, solver.start(noise), mixture().denoiser(solver)))


def parts(state: State) -> list[Tensor]:
    """All tensors of a state."""
    return [state.x, *state.history, *([] if state.anchor is None else [state.anchor])]


def same(a: State, b: State) -> bool:
    """Whether two states are equal to the last bit."""
    first, second = parts(a), parts(b)
    return len(first) == len(second) and all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def end_of(solver: Solver, noise: Tensor) -> Tensor:
    """x at the end of the mixture's trajectory from noise (B, 2)."""
    return final_x(solver, mixture().denoiser(solver), noise)
