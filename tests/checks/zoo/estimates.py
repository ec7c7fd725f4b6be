"""Wrong estimates of x0."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .sound import EverySecond, Threshold
from .specimen import wrong


@wrong("accuracy", "returns zeros for x0")
class Nothing(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return torch.zeros_like(x)


@wrong("accuracy", "returns the state for x0")
class StateForPrediction(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return x.clone()


@wrong("schedules", "holds the velocity and takes x0 = x - t y, which is right on rectified flow only")
class FlowOnly(EverySecond):
    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.y: list[tuple[int, Tensor]] = []

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        (new, a), (old, b) = self.y
        times = [self.nodes[index].t for index in (step, new, old)]
        y = a + (a - b) * (times[0] - times[1]) / (times[1] - times[2])
        sigma = self.nodes[step].sigma
        return x - min(times[0], 2 * sigma) * y if times[0] <= 1 else x - sigma * y / 1000

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if not self.due(step):
            self.y = [(step, y), *self.y][:2]
        super().observe(step, x, x0, y, x_next)


@wrong("accuracy", "holds the noise, and takes x0 = x - sigma eps without dividing by alpha")
class NoAlpha(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return x - self.nodes[step].sigma * self.eps

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        node = self.nodes[step]
        self.eps = (x - node.alpha * x0) / node.sigma


@wrong("accuracy", "extrapolates with the sign of the slope reversed, twice as far")
class Backwards(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        (_, a), (_, b) = self.past
        return a - 4 * (a - b)


@wrong("accuracy", "holds x0 of the start of the run: its history is filled once and never renewed")
class NeverRenewed(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if len(self.past) < 2:
            super().observe(step, x, x0, y, x_next)

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return self.past[0][1]


@wrong("batch invariance", "returns the first rows of its memory instead of those that skip")
class FirstRows(Threshold):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        assert self.x0 is not None
        return self.x0[: len(rows)]


@wrong("batch invariance", "returns the mean x0 of the batch for every sample")
class MeanOfBatch(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return super().estimate(step, x, rows).mean(0, keepdim=True).expand_as(x).clone()


@wrong("batch invariance", "returns the rows in the opposite order")
class Reversed(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return super().estimate(step, x, rows).flip(0)


@wrong("rounding", "keeps its history in float16 to save memory")
class HalfHistory(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0.half().to(x0), y, x_next)


@wrong("rounding", "accumulates x0 in bfloat16")
class CoarseSum(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return super().estimate(step, x, rows).to(torch.bfloat16).to(x)


@wrong("dtype", "returns float64 whatever x is")
class Upcasts(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return super().estimate(step, x, rows).double()


@wrong("runs", "returns all samples where only some skip")
class AllRows(Threshold):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        assert self.x0 is not None
        return self.x0


@wrong("runs", "returns x0 flattened to (B, N)")
class Flattened(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return super().estimate(step, x, rows).flatten(1)
