"""State where it does not belong, and inputs that are written to."""

import time
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sadaflow import Mode
from sadaflow.solvers import Solver, State

from .sound import EverySecond, Threshold
from .specimen import wrong


@wrong("state", "counts its runs in the settings, and skips later in each")
class LeaksIntoSettings(EverySecond):
    def plan(self, step: int) -> Sequence[Mode]:
        self.accelerator.kept += [step] * (step == 0)
        return super().plan(step) if step > 2 * len(self.accelerator.kept) else [Mode.FULL] * self.samples


@wrong("state", "keeps its history in the settings, which every run overwrites")
class SharedHistory(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if not self.due(step):
            self.accelerator.kept[:] = [(step, x0), *self.accelerator.kept][:2]
            self.past = [None, *self.past][:2]  # type: ignore[list-item]

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        x0: Tensor = self.accelerator.kept[0][1]
        return x0 if x0.shape == x.shape else x.clone()


_CACHE: dict[tuple[int, ...], Tensor] = {}


@wrong("state", "keeps x0 in a dictionary of the module, by shape")
class ModuleCache(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        _CACHE[tuple(x.shape)] = self.past[0][1]

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return _CACHE[tuple(x.shape)]


@wrong("determinism", "counts steps in the class instead of the object")
class ClassCounter(EverySecond):
    seen: ClassVar[list[int]] = [0]

    def due(self, step: int) -> bool:
        return super().due(step) and self.seen[0] % 3 != 0

    def revise(self, state: State, x0: Tensor) -> State:
        self.seen[0] += 1
        return state


@wrong("determinism", "lets a global random generator decide")
class Throws(EverySecond):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.thrown = 1.0

    def plan(self, step: int) -> Sequence[Mode]:
        return super().plan(step) if self.thrown < 0.5 else [Mode.FULL] * self.samples

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.thrown = float(torch.rand(()))
        self.past = [(step, x0), *self.past][:2]


@wrong("determinism", "seeds the global generator, to be reproducible")
class Seeds(EverySecond):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        torch.manual_seed(0)


@wrong("determinism", "skips if the last step took long")
class WallClock(EverySecond):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.began = time.perf_counter()
        self.slow = False

    def due(self, step: int) -> bool:
        return self.slow and super().due(step)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.past = [(step, x0), *self.past][:2] if not self.due(step) else self.past
        now = time.perf_counter()
        self.slow, self.began = now - self.began > 0.015, now


@wrong("determinism", "switches gradients on and leaves them on")
class GradientsOn(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        torch.set_grad_enabled(True)
        return super().estimate(step, x, rows)


@wrong("inputs kept", "scales y in place")
class OverwritesVelocity(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        y.mul_(0.5)


@wrong("inputs kept", "damps the state that the solver goes on from, in place")
class OverwritesState(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        x_next.mul_(0.999)


@wrong("inputs kept", "returns x0 from its buffer and reuses the buffer, so that the solver's history changes")
class Alias(Threshold):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        kept = self.x0
        super().observe(step, x, x0, y, x_next)
        if kept is not None:
            kept.copy_(x0)
            self.x0 = kept


@wrong("memory", "keeps every state in a list")
class Hoards(EverySecond):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.all: list[Any] = []

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        self.all.append(lambda: x)


_LOG: list[Tensor] = []


@wrong("memory", "appends to a list of the module, which outlives the run")
class Logs(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        _LOG.append(x0)


@wrong("identity", "changes the state of evaluated steps too")
class Improves(EverySecond):
    def revise(self, state: State, x0: Tensor) -> State:
        return State(1.001 * state.x, state.step, state.history, state.anchor)


@wrong("identity", "takes the last step again with x0 of the present one, even if that was evaluated")
class Replays(EverySecond):
    def __init__(self, solver: Solver, samples: int, accelerator: Any = None) -> None:
        super().__init__(solver, samples, accelerator)
        self.solver, self.before = solver, None

    def revise(self, state: State, x0: Tensor) -> State:
        before, self.before = self.before, state  # type: ignore[assignment]
        return state if before is None else self.solver.step(before, x0)


@wrong("runs", "returns the state of the step before from `revise`")
class GoesBack(EverySecond):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.before: State | None = None

    def revise(self, state: State, x0: Tensor) -> State:
        before, self.before = self.before, state
        return before if before is not None and self.due(state.step) else state
