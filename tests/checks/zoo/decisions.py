"""Wrong decisions and plans."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sadaflow import Mode

from .sound import EverySecond, Threshold, rows_of
from .specimen import wrong


@wrong("batch invariance", "decides for all samples by the norm over the batch")
class NormOfBatch(Threshold):
    def change(self, x0: Tensor) -> Tensor:
        assert self.x0 is not None
        return ((x0 - self.x0).norm() / x0.norm()).expand(self.samples)


@wrong("batch invariance", "decides for all samples by the first")
class FirstDecides(Threshold):
    def change(self, x0: Tensor) -> Tensor:
        return super().change(x0)[:1].expand(self.samples)


@wrong("batch invariance", "skips only if every sample may")
class Unanimous(Threshold):
    def decided(self, calm: list[bool]) -> list[Mode]:
        return super().decided([all(calm)] * self.samples)


@wrong("one sample changed", "normalises the change by its largest value in the batch")
class RelativeToLargest(Threshold):
    limit = 0.3

    def change(self, x0: Tensor) -> Tensor:
        change = super().change(x0)
        return change / change.max()


@wrong("one sample changed", "skips the half of the batch that changes least", solvers=("euler",))
class Half(Threshold):
    def change(self, x0: Tensor) -> Tensor:
        change = super().change(x0)
        return torch.where(change <= change.median(), 0.0, 1.0)


@wrong("batch invariance", "uses the norm over the batch above eight samples")
class LargeBatch(Threshold):
    def change(self, x0: Tensor) -> Tensor:
        change = super().change(x0)
        return change if self.samples <= 8 else change.mean().expand(self.samples)


@wrong("batch invariance", "staggers the schedule by the index of the sample")
class Staggered(Threshold):
    def change(self, x0: Tensor) -> Tensor:
        return super().change(x0) * (1 + 0.5 * torch.arange(self.samples).to(x0) % 2)


@wrong("batch invariance", "keeps one count of skips for the batch")
class OneCount(Threshold):
    skips = 0

    def decided(self, calm: list[bool]) -> list[Mode]:
        modes = [Mode.REUSED if quiet and self.skips < 2 else Mode.FULL for quiet in calm]
        self.skips = self.skips + 1 if Mode.REUSED in modes else 0
        return modes


@wrong("runs", "plans one mode for the batch")
class OnePlan(EverySecond):
    def plan(self, step: int) -> Sequence[Mode]:
        return super().plan(step)[:1]


@wrong("runs", "plans strings instead of modes")
class Strings(EverySecond):
    def plan(self, step: int) -> Sequence[Mode]:
        return ["skip" if self.due(step) else "full"] * self.samples  # type: ignore[list-item]


@wrong("runs", "plans bools, as a mask of what to skip")
class Bools(EverySecond):
    def plan(self, step: int) -> Sequence[Mode]:
        return [self.due(step)] * self.samples  # type: ignore[list-item]


@wrong("runs", "estimates before it has evaluated anything")
class SkipsFirst(EverySecond):
    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.REUSED if step == 0 else Mode.FULL] * self.samples


@wrong("accuracy", "skips the first step, with x0 = 0")
class SkipsTheFirstTwo(EverySecond):
    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.REUSED if step < 2 else Mode.FULL] * self.samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return torch.full_like(x, 3.0)


@wrong("number of steps", "has a table of steps to skip that was made for 50 steps")
class TableOfFifty(EverySecond):
    table = (False, False, False, *(step % 2 == 1 for step in range(3, 47)), False, False, False)

    def due(self, step: int) -> bool:
        return self.table[step] and len(self.past) == 2


@wrong("few steps", "fails in the middle of short runs")
class NeedsTwenty(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        [0.0][0 if self.steps >= 20 else step]


@wrong("solvers", "divides by the difference of the times of evaluations, which Heun repeats", solvers=("heun",))
class DividesByStep(EverySecond):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        times = [node.t for node in self.nodes]
        self.rates = [1 / (a - b) for a, b in zip(times, times[1:], strict=False)]


@wrong("pure noise", "divides by alpha, which is 0 at flow time 1")
class DividesByAlpha(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        self.scale = self.nodes[step].sigma / self.nodes[step].alpha


@wrong("shapes", "takes states to be square images")
class Square(Threshold):
    def change(self, x0: Tensor) -> Tensor:
        assert self.x0 is not None
        side = int(x0[0, 0].numel() ** 0.5)
        images = (x0 - self.x0).reshape(self.samples, -1, side, side)
        return images.flatten(1).norm(dim=1) / x0.flatten(1).norm(dim=1)


@wrong("shapes", "reduces over dimensions 1, 2 and 3, which vectors and video do not have")
class ThreeDimensions(Threshold):
    def change(self, x0: Tensor) -> Tensor:
        assert self.x0 is not None
        return (x0 - self.x0).square().sum((1, 2, 3)).sqrt() / x0.square().sum((1, 2, 3)).sqrt()


@wrong("runs", "waits in a loop for a step that never comes", seconds=2.0)
class Loops(EverySecond):
    def plan(self, step: int) -> Sequence[Mode]:
        while step == 5:
            pass
        return super().plan(step)


@wrong("dtype", "compares with a threshold below the rounding of float16, whose sums overflow")
class Overflows(Threshold):
    def change(self, x0: Tensor) -> Tensor:
        return super().change(x0) if x0.dtype != torch.float16 else (x0 * 1e5).flatten(1).norm(dim=1).int().to(x0)

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        x0 = super().estimate(step, x, rows)
        return x0 if x.dtype is torch.float64 else x0.float()


@wrong("batch invariance", "decides alike for all by a number of the data, so that samples never decide apart")
class Alike(Threshold):
    """Its criterion is a number of the trajectory, yet it never parts samples: reported as vacuous."""

    def explain(self, step: int) -> Any:
        from sadaflow.accelerators import Explanation

        return Explanation("change", 10.0, [0.5] * self.samples, [None] * self.samples)

    def change(self, x0: Tensor) -> Tensor:
        return super().change(x0) * 0.0


@wrong("identity", "never skips: its threshold is in the wrong unit")
class NeverSkips(Threshold):
    limit = -1.0


@wrong("batch invariance", "renews the memory of every sample by whichever row was evaluated first")
class WrongRow(Threshold):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        evaluated = [row for row, mode in enumerate(self.modes) if mode is Mode.FULL]
        kept = self.x0
        super().observe(step, x, x0, y, x_next)
        if kept is not None and len(evaluated) < self.samples:
            self.x0 = rows_of(kept, x0.roll(1, 0), evaluated)
