"""The lists of solvers, and the decorators that put a class into them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from sadaflow.solvers import GridSolver, State

Solver = TypeVar("Solver", bound=type)


@dataclass(frozen=True)
class Wrong:
    """A wrong solver.

    Attributes:
        factory: makes it.
        mistake: what is wrong.
        law: the law that must catch it.
        stochastic: whether `factory` takes a noise source.
        settings: settings of the examination.
    """

    factory: Callable[..., Any]
    mistake: str
    law: str
    stochastic: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Right:
    """A right solver: `factory` makes it, and it is of this `kind`."""

    factory: Callable[..., Any]
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)


WRONG: dict[str, Wrong] = {}
RIGHT: dict[str, Right] = {}


def wrong(mistake: str, law: str, *, stochastic: bool = False, **settings: Any) -> Callable[[Solver], Solver]:
    """Puts a class into `WRONG`."""

    def put(solver: Solver) -> Solver:
        assert solver.__name__ not in WRONG
        WRONG[solver.__name__] = Wrong(solver, mistake, law, stochastic, settings)
        return solver

    return put


def right(kind: str, **settings: Any) -> Callable[[Solver], Solver]:
    """Puts a class into `RIGHT`."""

    def put(solver: Solver) -> Solver:
        RIGHT[solver.__name__] = Right(solver, kind, settings)
        return solver

    return put


@dataclass(frozen=True, eq=False)
class Ddim(GridSolver):
    """Euler's method as in DDIM's paper, from which most of the wrong ones derive."""

    @property
    def order(self) -> int:
        return 1

    def step(self, state: State, x0: Tensor) -> State:
        return State(self.moved(state, x0), state.step + 1)

    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step : state.step + 2]
        eps = (state.x - here.alpha * x0) / here.sigma
        return there.alpha * x0 + there.sigma * eps


@dataclass(frozen=True, eq=False)
class TwoStep(GridSolver):
    """DPM-Solver++ 2M, with its extrapolated x0 in a method of its own."""

    @property
    def order(self) -> int:
        return 2

    def extrapolated(self, state: State, x0: Tensor) -> Tensor:
        if not state.history or self.grid.points[state.step + 1].sigma == 0:
            return x0
        return x0 + 0.5 / self.ratio(state.step) * (x0 - state.history[0])

    def ratio(self, step: int) -> float:
        """Length of the last step by that of this one, in log-SNR."""
        before, here, there = self.grid.points[step - 1 : step + 2]
        return (here.log_snr - before.log_snr) / (there.log_snr - here.log_snr)

    def step(self, state: State, x0: Tensor) -> State:
        here, there = self.grid.points[state.step : state.step + 2]
        keep = there.sigma / here.sigma
        x = keep * state.x + (there.alpha - keep * here.alpha) * self.extrapolated(state, x0)
        return State(x, state.step + 1, (x0,))
