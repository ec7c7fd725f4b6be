"""Wrong stochastic solvers."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from sadaflow.solvers import DPMpp, EulerAncestral, Grid, NoiseSource, SeededNoise, State, Update

from .kinds import wrong


@dataclass(frozen=True, eq=False)
class _Changed(EulerAncestral):
    """Ancestral Euler with changed updates."""

    def change(self, step: int, update: Update) -> Update:
        return update

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return tuple(self.change(step, update) for step, update in enumerate(super().updates))


@wrong("the variance of the noise is doubled", "distribution", stochastic=True)
class DoubledVariance(_Changed):
    def change(self, step: int, update: Update) -> Update:
        return replace(update, noise=2**0.5 * update.noise)


@wrong("2% of the noise are missing", "distribution", stochastic=True)
class TooLittleNoise(_Changed):
    def change(self, step: int, update: Update) -> Update:
        return replace(update, noise=0.98 * update.noise)


@wrong("the noise is left out where it should replace what was taken", "distribution", stochastic=True)
class NoNoise(_Changed):
    def change(self, step: int, update: Update) -> Update:
        return replace(update, noise=1e-3 * update.noise)


@wrong("noise of the size of the end, not of the step", "distribution", stochastic=True)
class NotTheStep(_Changed):
    def change(self, step: int, update: Update) -> Update:
        return replace(update, noise=0.1 * self.grid.points[step + 1].sigma)


@wrong("the variance is taken for the standard deviation", "distribution", stochastic=True)
class VarianceForDeviation(_Changed):
    def change(self, step: int, update: Update) -> Update:
        return replace(update, noise=update.noise**2)


@wrong("eta is squared in the noise and not in what it replaces", "distribution", stochastic=True)
class EtaTwice(_Changed):
    def __init__(self, grid: Grid, noise: NoiseSource) -> None:
        super().__init__(grid, noise, eta=0.7)

    def change(self, step: int, update: Update) -> Update:
        return replace(update, noise=0.7 * update.noise)


@wrong("noise is added to clean data", "ends at x0", stochastic=True)
class NoiseAtTheEnd(_Changed):
    def change(self, step: int, update: Update) -> Update:
        return replace(update, noise=update.noise or 0.01)


@wrong("the same noise at every step", "noise draws", stochastic=True)
class SameNoise(_Changed):
    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return super().draw(1, span, like)


@wrong("noise is drawn for the evaluation that was made, not for the next", "noise draws", stochastic=True)
class IndexOff(_Changed):
    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return super().draw(index - 1, span, like)


@wrong("noise of the global generator", "global generators", stochastic=True)
class GlobalNoise(_Changed):
    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return torch.randn_like(like)


@wrong("a generator of its own in place of the noise source", "noise source", stochastic=True)
class OwnNoise(_Changed):
    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return SeededNoise(tuple(range(len(like))))(index, span, like)


@wrong("all noise is drawn over the whole interval", "noise draws", stochastic=True)
class WholeSpan(_Changed):
    def change(self, step: int, update: Update) -> Update:
        return replace(update, span=(1.0, 0.0))


@wrong("the span is upside down", "noise draws", stochastic=True)
class SpanUpsideDown(_Changed):
    def change(self, step: int, update: Update) -> Update:
        return replace(update, span=update.span[::-1])


@wrong("the span is in sigma/alpha, not in s", "noise draws", stochastic=True)
class SpanInRatio(_Changed):
    def change(self, step: int, update: Update) -> Update:
        here, there = self.grid.points[step : step + 2]
        return replace(update, span=(here.sigma / max(here.alpha, 1e-9), there.sigma / there.alpha))


@wrong("every span is that of the first step", "noise draws", stochastic=True)
class FirstSpan(_Changed):
    def change(self, step: int, update: Update) -> Update:
        first, second = self.grid.points[:2]
        return replace(update, span=(first.noise_fraction, second.noise_fraction))


@wrong("one noise for the whole batch", "noise draws", stochastic=True)
class OneForAll(_Changed):
    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return SeededNoise((0,))(index, span, like[:1]) if self.noise is None else self.noise(index, span, like[:1])


@wrong("each sample has the noise of the first", "noise source", stochastic=True)
class FirstForAll(_Changed):
    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return super().draw(index, span, like)[:1].expand_as(like)


@wrong("noise is drawn twice per step", "noise draws", stochastic=True)
class DrawsTwice(_Changed):
    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return (super().draw(index, span, like) + super().draw(index, span, like)) / 2


@wrong("the noise is kept in the object and used again", "step repeats", stochastic=True)
@dataclass(frozen=True, eq=False)
class KeptNoise(_Changed):
    kept: list[Tensor] = field(default_factory=list)

    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        self.kept.append(super().draw(index, span, like))
        old = self.kept[max(len(self.kept) - 2, 0)]
        return old if old.shape == like.shape and old.dtype == like.dtype else self.kept[-1]


@wrong("the sign of the noise alternates, so that samples do not follow the path", "strong order", stochastic=True,
       strong_order=0.5)  # fmt: skip
class Alternates(_Changed):
    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return super().draw(index, span, like) * (-1) ** index


@wrong("the weight of the past output is doubled", "drift order", stochastic=True)
class DoubledHistory(DPMpp):
    def __init__(self, grid: Grid, noise: NoiseSource) -> None:
        super().__init__(grid, noise, eta=1.0)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return tuple(
            replace(update, weights=(update.weights[0] - update.weights[1], 2 * update.weights[1]))
            if len(update.weights) == 2 else update for update in super().updates
        )  # fmt: skip


@wrong("the drift of the ODE with the noise of the SDE", "distribution", stochastic=True)
class DriftOfTheOde(_Changed):
    def change(self, step: int, update: Update) -> Update:
        here, there = self.grid.points[step : step + 2]
        keep = there.sigma / here.sigma
        return replace(update, keep=keep, weights=(there.alpha - keep * here.alpha,))


@wrong("x0 is shifted by the noise source's seed 0", "global generators", stochastic=True)
class Reseeds(_Changed):
    def step(self, state: State, x0: Tensor) -> State:
        torch.manual_seed(0)
        return super().step(state, x0)
