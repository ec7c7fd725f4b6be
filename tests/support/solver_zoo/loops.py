"""Solvers that do not advance, do not end, count wrong, raise, or start wrong."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import State

from .kinds import Ddim, TwoStep, wrong


@wrong("step does not advance", "evaluations")
class Stuck(Ddim):
    def step(self, state: State, x0: Tensor) -> State:
        return State(self.moved(state, x0), state.step)


@wrong("step advances by two", "evaluations")
class TwoAtOnce(Ddim):
    def step(self, state: State, x0: Tensor) -> State:
        return State(self.moved(state, x0), state.step + 2)


@wrong("step goes back at the fourth evaluation", "evaluations")
class GoesBack(Ddim):
    def step(self, state: State, x0: Tensor) -> State:
        return State(self.moved(state, x0), state.step + 1 if state.step != 3 else 2)


@wrong("an inner iteration that does not converge", "evaluations", seconds=1.0)
class NeverEnds(Ddim):
    def step(self, state: State, x0: Tensor) -> State:
        guess = self.moved(state, x0)
        while float((guess - state.x).abs().max()) >= 0:
            guess = guess + 0
        return State(guess, state.step + 1)


@wrong("one evaluation more than there are nodes", "evaluations")
class OneTooMany(Ddim):
    @property
    def n_evals(self) -> int:
        return len(self.nodes) + 1

    def step(self, state: State, x0: Tensor) -> State:
        last = State(state.x, min(state.step, self.grid.n_steps - 1))
        return State(self.moved(last, x0), state.step + 1)


@wrong("the last step is left out", "evaluations")
class OneTooFew(Ddim):
    @property
    def n_evals(self) -> int:
        return len(self.nodes) - 1


@wrong("the number of evaluations is not a number", "evaluations")
class Endless(Ddim):
    @property
    def n_evals(self):  # type: ignore[no-untyped-def]
        return math.inf


@wrong("the points before the first are read: an IndexError on short grids", "few steps")
class NeedsThree(TwoStep):
    def step(self, state: State, x0: Tensor) -> State:
        assert self.grid.points[2].t < self.grid.points[0].t
        return super().step(state, x0)


@wrong("the last interval reads a point beyond the grid", "evaluations")
class BeyondTheEnd(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        return super().moved(state, x0) + 0 * self.grid.points[state.step + 2].t


@wrong("the step to clean data stops at sigma = 0.002", "ends at x0")
class StopsBefore(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step : state.step + 2]
        return there.alpha * x0 + max(there.sigma, 0.002) * (state.x - here.alpha * x0) / here.sigma


@wrong("a multistep method that extrapolates beyond the last x0", "ends at x0")
class Beyond(TwoStep):
    def extrapolated(self, state: State, x0: Tensor) -> Tensor:
        if not state.history:
            return x0
        return x0 + 0.01 * (x0 - state.history[0]) if self.grid.points[state.step + 1].sigma == 0 else (
            super().extrapolated(state, x0)
        )


@wrong("the noise is not scaled", "start")
class Unscaled(Ddim):
    def start(self, noise: Tensor) -> State:
        return State(noise)


@wrong("the noise is scaled by sqrt(1 + sigma^2)", "start")
class Variance(Ddim):
    def start(self, noise: Tensor) -> State:
        return State(noise * (1 + self.grid.points[0].sigma ** 2) ** 0.5)


@wrong("the noise is standardised", "start")
class Standardised(Ddim):
    def start(self, noise: Tensor) -> State:
        return super().start(noise / noise.std())


@wrong("alpha'/alpha: ZeroDivisionError from alpha = 0", "noise start")
class DividesByAlpha(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step : state.step + 2]
        if there.sigma == 0:
            return there.alpha * x0
        eps = (state.x - here.alpha * x0) / here.sigma
        h = there.log_snr - here.log_snr
        return there.alpha / here.alpha * state.x - there.sigma * math.expm1(h) * eps


@wrong("the exponential of a step in log-SNR: OverflowError or NaN from near alpha = 0", "noise start")
class Overflows(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step : state.step + 2]
        if there.sigma == 0:
            return there.alpha * x0
        h = there.log_snr - here.log_snr
        return there.sigma / here.sigma * state.x + there.alpha * (1 - 1 / math.exp(h)) * x0 * math.exp(0 * h * h)


@wrong("the logarithm of alpha: ValueError from alpha = 0", "noise start")
class LogAlpha(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        return super().moved(state, x0) + 0 * math.log(self.grid.points[state.step].alpha)


@wrong("Heun's method on eps in sigma/alpha: 1e12 from alpha = 1e-16", "noise start")
@dataclass(frozen=True, eq=False)
class RatioSteps(TwoStep):
    def step(self, state: State, x0: Tensor) -> State:
        here, there = self.grid.points[state.step : state.step + 2]
        eps = (state.x - here.alpha * x0) / here.sigma
        past = state.history[0] if state.history else eps
        if there.sigma == 0:
            return State(there.alpha * x0, state.step + 1)
        u = [point.sigma / max(point.alpha, 1e-300) for point in self.grid.points[max(state.step - 1, 0):][:3]]
        if len(u) == 3 and state.history:
            weight = (u[2] - u[1]) / (u[1] - u[0]) / 2
            eps_used = eps + weight * (eps - past)
        else:
            eps_used = eps
        z = state.x / max(here.alpha, 1e-300) + (u[-1] - u[-2]) * eps_used
        return State(there.alpha * z, state.step + 1, (eps,))


@wrong("state of another shape for the last step", "evaluations")
class Squeezes(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        x = super().moved(state, x0)
        return x[:, :1] if state.step == self.grid.n_steps - 1 else x


@wrong("NaN where a difference of equal points is divided", "noise start")
class NotANumber(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here = torch.tensor(self.grid.points[state.step].alpha, dtype=x0.dtype)
        return super().moved(state, x0) + 0 * (x0 / here) * (here == 0)
