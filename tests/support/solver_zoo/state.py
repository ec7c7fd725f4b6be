"""Solvers with state in the object, changes in place, and memory that grows."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sadaflow.solvers import State

from .kinds import Ddim, TwoStep, wrong


@wrong("the last x0 is kept in the solver object", "object")
@dataclass(frozen=True, eq=False)
class LastInObject(TwoStep):
    past: dict[str, Tensor] = field(default_factory=dict)

    def step(self, state: State, x0: Tensor) -> State:
        history = (self.past["x0"],) if state.step else ()
        after = super().step(State(state.x, state.step, history), x0)
        self.past["x0"] = x0
        return State(after.x, after.step)


@wrong("x0 of each step is kept in the object by its index, and the first one stays", "fork")
@dataclass(frozen=True, eq=False)
class CachedByStep(TwoStep):
    past: dict[int, Tensor] = field(default_factory=dict)

    def step(self, state: State, x0: Tensor) -> State:
        kept = self.past.setdefault(state.step, x0)
        return super().step(state, kept if kept.shape == x0.shape and kept.dtype == x0.dtype else x0)


@wrong("outputs are kept in a list of the class, which all solvers share", "step repeats")
@dataclass(frozen=True, eq=False)
class SharedList(TwoStep):
    past: ClassVar[list[Tensor]] = []

    def step(self, state: State, x0: Tensor) -> State:
        fits = state.step and self.past and self.past[-1].shape == x0.shape and self.past[-1].dtype == x0.dtype
        after = super().step(State(state.x, state.step, (self.past[-1],) if fits else ()), x0)
        self.past.append(x0)
        return after


@wrong("the object counts its steps, and reads its grid by the count", "object")
@dataclass(frozen=True, eq=False)
class Counter(Ddim):
    calls: list[int] = field(default_factory=lambda: [0])

    def step(self, state: State, x0: Tensor) -> State:
        self.calls[0] += 1
        return super().step(state, x0)


@wrong("a running mean of x0 is kept in the object", "step repeats")
@dataclass(frozen=True, eq=False)
class RunningMean(Ddim):
    mean: list[Tensor] = field(default_factory=list)

    def step(self, state: State, x0: Tensor) -> State:
        fits = self.mean and self.mean[-1].shape == x0.shape and self.mean[-1].dtype == x0.dtype
        smooth = 0.999 * x0 + 0.001 * self.mean[-1] if fits else x0
        self.mean[:] = [smooth]
        return super().step(state, smooth)


@wrong("x is changed in place", "step keeps inputs")
class InPlaceX(Ddim):
    def step(self, state: State, x0: Tensor) -> State:
        here, there = self.grid.points[state.step : state.step + 2]
        keep = there.sigma / here.sigma
        return State(state.x.mul_(keep).add_((there.alpha - keep * here.alpha) * x0), state.step + 1)


@wrong("x0 is changed in place", "step keeps inputs")
class InPlaceX0(Ddim):
    def step(self, state: State, x0: Tensor) -> State:
        here, there = self.grid.points[state.step : state.step + 2]
        keep = there.sigma / here.sigma
        return State(x0.mul_(there.alpha - keep * here.alpha).add_(keep * state.x), state.step + 1)


@wrong("the past output is updated in place", "step keeps inputs")
class InPlaceHistory(TwoStep):
    def step(self, state: State, x0: Tensor) -> State:
        after = super().step(state, x0)
        return State(after.x, after.step, (state.history[0].copy_(x0),) if state.history else (x0.clone(),))


@wrong("velocity changes x in place", "step keeps inputs")
class InPlaceVelocity(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        return super().velocity(x.mul_(1.0 + 1e-9), x0, step)


@wrong("the history is a list that all states share", "step repeats")
class SharedHistory(TwoStep):
    def step(self, state: State, x0: Tensor) -> State:
        history = state.history if isinstance(state.history, list) else []
        after = super().step(State(state.x, state.step, tuple(history[-1:])), x0)
        history.append(x0)
        return State(after.x, after.step, history)  # type: ignore[arg-type]


@wrong("all past outputs are kept", "memory")
class KeepsAll(TwoStep):
    def step(self, state: State, x0: Tensor) -> State:
        after = super().step(state, x0)
        return State(after.x, after.step, (x0, *state.history))


@wrong("past outputs are kept in one tensor that grows", "memory")
class GrowingTensor(TwoStep):
    def step(self, state: State, x0: Tensor) -> State:
        after = super().step(State(state.x, state.step, tuple(part[0] for part in state.history)), x0)
        return State(after.x, after.step, (torch.stack([x0, *(state.history[0] if state.history else ())]),))


@wrong("each step goes over all earlier points with operations on tensors", "work")
class Quadratic(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        x = super().moved(state, x0)
        for point in self.grid.points[: state.step]:
            x = x + 0 * point.alpha * x0
        return x


@wrong("the first noise is kept, to start every run with it", "object")
@dataclass(frozen=True, eq=False)
class FirstNoise(Ddim):
    kept: list[Tensor] = field(default_factory=list)

    def start(self, noise: Tensor) -> State:
        if not self.kept:
            self.kept.append(noise)
        fits = self.kept[0].shape == noise.shape and self.kept[0].dtype == noise.dtype
        return super().start(self.kept[0] if fits else noise)
