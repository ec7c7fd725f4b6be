"""Wrong formulas: coefficients, indices, signs, and orders that are not reached."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from torch import Tensor

from sadaflow.solvers import AdamsBashforth, DPMpp, State, Update
from sadaflow.solvers.coordinates import FLOW_FRAME
from sadaflow.solvers.linear import LinearSolver, output_update
from sadaflow.solvers.runge_kutta import TABLEAUS, Tableau, stages

from .kinds import Ddim, TwoStep, wrong


@wrong("alpha and sigma of the end are swapped", "trajectory")
class SwappedCoefficients(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step : state.step + 2]
        return there.sigma * x0 + there.alpha * (state.x - here.alpha * x0) / here.sigma


@wrong("eps is computed with the next point's alpha", "trajectory")
class NextAlpha(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step : state.step + 2]
        return there.alpha * x0 + there.sigma * (state.x - there.alpha * x0) / here.sigma


@wrong("each step goes to the point after the next", "trajectory")
class OneTooFar(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step], self.grid.points[min(state.step + 2, self.grid.n_steps)]
        return there.alpha * x0 + there.sigma * (state.x - here.alpha * x0) / here.sigma


@wrong("t is taken for sigma, as on EDM and flow", "trajectory")
class TimeForSigma(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step : state.step + 2]
        scale = self.grid.schedule.t_max
        return there.alpha * x0 + there.t / scale * (state.x - here.alpha * x0) / (here.t / scale)


@wrong("alpha is taken for 1, as on EDM", "trajectory")
class NoAlpha(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step : state.step + 2]
        return state.x + (there.sigma - here.sigma) * (state.x - x0) / here.sigma


@wrong("expm1(h) in place of -expm1(-h)", "trajectory")
class WrongExponent(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step : state.step + 2]
        h = min(there.log_snr - here.log_snr, 50.0)
        return there.sigma / here.sigma * state.x + there.alpha * math.expm1(h) * x0


@wrong("the network's x0 is taken for eps", "trajectory")
class X0ForEps(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        here, there = self.grid.points[state.step : state.step + 2]
        clean = (state.x - here.sigma * x0) / max(here.alpha, 1e-3)
        return there.alpha * clean + there.sigma * x0


@wrong("an Euler method that claims order 2", "order")
class ClaimsTwo(Ddim):
    @property
    def order(self) -> int:
        return 2


@wrong("the sign of the extrapolation is wrong", "order")
class WrongSign(TwoStep):
    def extrapolated(self, state: State, x0: Tensor) -> Tensor:
        return 2 * x0 - super().extrapolated(state, x0)


@wrong("weights of equal steps on every grid", "jagged order")
class EvenRatio(TwoStep):
    def ratio(self, step: int) -> float:
        return 1.0


@wrong("0.6 in place of 1/2", "order")
class WrongHalf(TwoStep):
    def ratio(self, step: int) -> float:
        return super().ratio(step) / 1.2


@wrong("the past output is one step older than the formula has it", "order")
class StaleHistory(TwoStep):
    def step(self, state: State, x0: Tensor) -> State:
        after = super().step(State(state.x, state.step, state.history[1:2] or state.history[:1]), x0)
        return State(after.x, after.step, (x0, *state.history[:1]))


@wrong("first order in the whole second half, by a wrong rule for the last steps", "order")
class EarlyLowerOrder(TwoStep):
    def extrapolated(self, state: State, x0: Tensor) -> Tensor:
        return super().extrapolated(state, x0) if 2 * state.step < self.grid.n_steps else x0


@wrong("steps that are more than twice as long as the last are cut", "jagged grid")
class CutSteps(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        before, here, there = (self.grid.points[max(state.step + k, 0)] for k in (-1, 0, 1))
        long = state.step > 0 and there.sigma > 0 and here.t - there.t > 2 * (before.t - here.t)
        sigma = (here.sigma + there.sigma) / 2 if long else there.sigma
        return there.alpha * x0 + sigma * (state.x - here.alpha * x0) / here.sigma


@wrong("x0 is scaled by 1.02 against a loss of contrast", "convergence")
class Contrast(TwoStep):
    def extrapolated(self, state: State, x0: Tensor) -> Tensor:
        return 1.02 * super().extrapolated(state, x0)


@wrong("the first step starts from an empty past output", "trajectory")
class ZeroStart(Ddim):
    def step(self, state: State, x0: Tensor) -> State:
        past = state.history[0] if state.history else 0 * x0
        return State(self.moved(state, x0 + 0.5 * (x0 - past)), state.step + 1, (x0,))


@dataclass(frozen=True, eq=False)
class _OneStep(LinearSolver):
    """A one-step method in the flow frame."""

    tableau = TABLEAUS["heun"]

    @property
    def order(self) -> int:
        return self.tableau.order

    @property
    def output_type(self) -> str:
        return "flow_prediction"

    @cached_property
    def _plan(self):  # type: ignore[no-untyped-def]
        steps = []
        for here, there in pairwise([*self.grid.nodes, self.grid.points[-1]]):
            steps.append(stages(self.grid, FLOW_FRAME, self.tableau, here, there))
        return steps

    @cached_property
    def nodes(self):  # type: ignore[no-untyped-def]
        return tuple(node for step in self._plan for node in step[0])

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return tuple(update for step in self._plan for update in step[1])


@wrong("Heun's step with the slope of its end alone", "order")
class EndSlope(_OneStep):
    tableau = replace(TABLEAUS["heun"], rows=((1.0,), (0.0, 1.0)))


@wrong("Heun's weights are 1/3 and 2/3", "order")
class WrongHeun(_OneStep):
    tableau = replace(TABLEAUS["heun"], rows=((1.0,), (1 / 3, 2 / 3)))


@wrong("the midpoint lies at 0.6 of the step", "order")
class WrongMidpoint(_OneStep):
    tableau = Tableau(2, (0.0, 0.6), ((0.6,), (0.0, 1.0)))


@wrong("the classical method with four equal weights", "order")
class EqualWeights(_OneStep):
    tableau = replace(TABLEAUS["rk4"], rows=(*TABLEAUS["rk4"].rows[:3], (1 / 4, 1 / 4, 1 / 4, 1 / 4)))


@wrong("a stage starts from the wrong slope", "order")
class WrongStage(_OneStep):
    tableau = replace(TABLEAUS["kutta3"], rows=((1 / 2,), (1.0, 0.0), (1 / 6, 2 / 3, 1 / 6)))


@wrong("the published 3M, which claims order 3", "order", warm_up=2)
class ClaimsThree(DPMpp):
    solver_order: int = 3

    def __init__(self, grid) -> None:  # type: ignore[no-untyped-def]
        super().__init__(grid, solver_order=3)

    @property
    def order(self) -> int:
        return 3


@wrong("Adams-Bashforth 2 on flow time with 3/2 and -1/2 on every grid", "jagged order")
class EvenAdams(AdamsBashforth):
    @cached_property
    def updates(self) -> tuple[Update, ...]:
        right = list(super().updates)
        for step in range(1, self.grid.n_steps):
            start, end = self.grid.nodes[step], self.grid.points[step + 1]
            if end.sigma > 0:
                h = FLOW_FRAME.scale(end) * (FLOW_FRAME.u(end) - FLOW_FRAME.u(start))
                keep = FLOW_FRAME.scale(end) / FLOW_FRAME.scale(start)
                right[step] = output_update("flow_prediction", start, keep, (1.5 * h, -0.5 * h))
        return tuple(right)
