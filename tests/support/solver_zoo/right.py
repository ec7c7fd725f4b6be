"""Right solvers of many kinds, written as other people would write them."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from sadaflow.solvers import Grid, GridSolver, LinearSolver, Node, NoiseSource, State, Update
from sadaflow.solvers.grid import point_at
from sadaflow.solvers.linear import first_order

from .kinds import right


@right("a class of the protocol without a base class")
class Outsider:
    """DDIM with tensors of weights made when the solver is."""

    order = 1

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.keep = (grid.sigma[1:] / grid.sigma[:-1]).tolist()
        alpha = grid.alpha.tolist()
        self.gain = [after - keep * before for after, before, keep in zip(alpha[1:], alpha, self.keep, strict=False)]

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.grid.nodes

    @property
    def n_evals(self) -> int:
        return self.grid.n_steps

    def start(self, noise: Tensor) -> State:
        return State(self.grid.start_scale * noise)

    def step(self, state: State, x0: Tensor) -> State:
        return State(self.keep[state.step] * state.x + self.gain[state.step] * x0, state.step + 1)

    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        node, schedule = self.nodes[step], self.grid.schedule
        eps = (x - node.alpha * x0) / node.sigma
        return float(schedule.d_alpha(node.t)) * x0 + float(schedule.d_sigma(node.t)) * eps


@right("weights computed when they are first used, and kept in the object")
class Lazy(Outsider):
    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self.cache: dict[int, tuple[float, float]] = {}

    def step(self, state: State, x0: Tensor) -> State:
        if state.step not in self.cache:
            self.cache[state.step] = self.keep[state.step], self.gain[state.step]
        keep, gain = self.cache[state.step]
        return State(keep * state.x + gain * x0, state.step + 1)


@right("Heun's method on dx/dt in t, where t is smooth: noise tables have kinks", schedules=("edm", "flow"))
@dataclass(frozen=True, eq=False)
class HeunInTime(GridSolver):
    order: ClassVar[int] = 2

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        found: list[Node] = []
        for index, node in enumerate(self.grid.nodes):
            found.append(node)
            if self._twice(index):
                found.append(self._at(index + 1))
        return tuple(found)

    def _twice(self, index: int) -> bool:
        return self.grid.points[index + 1].sigma > 0 and not self.grid.points[index].pure_noise

    def _at(self, index: int) -> Node:
        return self.grid.nodes[index] if index < self.grid.n_steps else self.grid.node(self.grid.points[index])

    @cached_property
    def _plan(self) -> tuple[tuple[int, bool], ...]:
        """(interval, whether it is the second stage) of each evaluation."""
        plan: list[tuple[int, bool]] = []
        for index in range(self.grid.n_steps):
            plan += [(index, False), *([(index, True)] if self._twice(index) else [])]
        return tuple(plan)

    def step(self, state: State, x0: Tensor) -> State:
        index, second = self._plan[state.step]
        here, there = self.grid.points[index : index + 2]
        if not self._twice(index):
            update = first_order(here, there)
            return State(update.keep * state.x + update.weights[0] * x0, state.step + 1)
        y, h = self.velocity(state.x, x0, state.step), there.t - here.t
        if second and state.anchor is not None:
            return State(state.anchor + h / 2 * (state.history[0] + y), state.step + 1)
        return State(state.x + h * y, state.step + 1, (y,), state.x)


@right("an exponential multistep method with its integrals in closed form")
@dataclass(frozen=True, eq=False)
class Exponential(GridSolver):
    order: ClassVar[int] = 2

    def step(self, state: State, x0: Tensor) -> State:
        here, there = self.grid.points[state.step : state.step + 2]
        update = first_order(here, there)
        x = update.keep * state.x + update.weights[0] * x0
        if state.history and there.sigma > 0 and not self.grid.points[state.step - 1].pure_noise:
            h, past = there.log_snr - here.log_snr, here.log_snr - self.grid.points[state.step - 1].log_snr
            x = x + there.alpha * (h + math.expm1(-h)) / past * (x0 - state.history[0])
        return State(x, state.step + 1, (x0,))


@right("Adams-Bashforth 2 in flow time, on eps - x0, with Python floats only")
@dataclass(frozen=True, eq=False)
class FlowAdams(GridSolver):
    order: ClassVar[int] = 2

    def step(self, state: State, x0: Tensor) -> State:
        here, there = self.grid.points[state.step : state.step + 2]
        if there.sigma == 0:
            return State(there.alpha * x0, state.step + 1)
        slope = (state.x - (here.alpha + here.sigma) * x0) / here.sigma
        h = there.noise_fraction - here.noise_fraction
        mixed = slope
        if state.history:
            past = here.noise_fraction - self.grid.points[state.step - 1].noise_fraction
            mixed = slope + h / (2 * past) * (slope - state.history[0])
        z = state.x / (here.alpha + here.sigma) + h * mixed
        return State((there.alpha + there.sigma) * z, state.step + 1, (slope,))


@right("a linear solver with its weights as a table")
@dataclass(frozen=True, eq=False)
class Table(LinearSolver):
    order: ClassVar[int] = 1

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        points = self.grid.points
        return tuple(first_order(points[step], points[step + 1]) for step in range(self.grid.n_steps))


@right("exponential Ralston: a second stage at two thirds of the step in log-SNR")
@dataclass(frozen=True, eq=False)
class TwoThirds(GridSolver):
    order: ClassVar[int] = 2

    @cached_property
    def _stage(self) -> tuple[Node | None, ...]:
        return tuple(self._middle(index) for index in range(self.grid.n_steps))

    def _middle(self, index: int) -> Node | None:
        here, there = self.grid.points[index : index + 2]
        if here.pure_noise or there.sigma == 0:
            return None
        at = here.log_snr + 2 / 3 * (there.log_snr - here.log_snr)
        return self.grid.node(point_at(self.grid.schedule, float(self.grid.schedule.t_from_log_snr(at))))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        pairs = zip(self.grid.nodes, self._stage, strict=True)
        return tuple(node for pair in pairs for node in pair if node is not None)

    @cached_property
    def _plan(self) -> tuple[tuple[int, bool], ...]:
        plan: list[tuple[int, bool]] = []
        for index, middle in enumerate(self._stage):
            plan += [(index, False), *([(index, True)] if middle is not None else [])]
        return tuple(plan)

    def step(self, state: State, x0: Tensor) -> State:
        index, second = self._plan[state.step]
        here, there = self.grid.points[index : index + 2]
        middle = self._stage[index]
        if middle is None or not second:
            update = first_order(here, there if middle is None else middle)
            moved = update.keep * state.x + update.weights[0] * x0
            return State(moved, state.step + 1, () if middle is None else (x0,), None if middle is None else state.x)
        assert state.anchor is not None
        whole, h = first_order(here, there), there.log_snr - here.log_snr
        slope = (x0 - state.history[0]) / (2 / 3 * h)
        x = whole.keep * state.anchor + whole.weights[0] * state.history[0] + there.alpha * (h + math.expm1(-h)) * slope
        return State(x, state.step + 1)


@right("the ancestral sampler as a class of the protocol", stochastic=True)
class Ancestral(Outsider):
    def __init__(self, grid: Grid, noise: NoiseSource) -> None:
        super().__init__(grid)
        self.noise = noise

    def step(self, state: State, x0: Tensor) -> State:
        here, there = self.grid.points[state.step : state.step + 2]
        left = -math.expm1(2 * (here.log_snr - there.log_snr))
        up = there.sigma * math.sqrt(left)
        down = math.sqrt(max(there.sigma**2 - up**2, 0.0))
        x = there.alpha * x0 + down * (state.x - here.alpha * x0) / here.sigma
        if there.sigma > 0:
            x = x + up * self.noise(state.step + 1, (here.noise_fraction, there.noise_fraction), x)
        return State(x, state.step + 1)


@right("weights in a cache of the module, keyed by the points")
@dataclass(frozen=True, eq=False)
class ModuleCache(GridSolver):
    order: ClassVar[int] = 1

    def step(self, state: State, x0: Tensor) -> State:
        keep, gain = _weights(self.grid, state.step)
        return State(torch.lerp(state.x, x0, gain / (keep + gain)) * (keep + gain), state.step + 1)


@lru_cache(maxsize=4096)
def _weights(grid: Grid, step: int) -> tuple[float, float]:
    update = first_order(grid.points[step], grid.points[step + 1])
    return update.keep, update.weights[0]
