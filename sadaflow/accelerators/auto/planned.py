"""A run of `Auto` that follows one of a fork's plans in each sample."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sadaflow.solvers import Solver, State

from ...device.indexing import taken
from ...device.readback import Readback
from ..base import Mode, Run
from ..history import Array, NodeBuffer
from ..replay import with_rows
from .error_model import Whole
from .linear_states import linear_states
from .plans import Fork, shares

_START = -1.0  # "time" of the first state among the values, whose times are steps


class PlannedRun(Run):
    """Evaluates the steps of a plan, and sets states to weighted sums of the first state and the evaluated x0.

    All samples make the same evaluations up to the fork. There the error of the predicted x0 ranks each sample among
    those of the calibration, and by its rank it takes one of the plans. A sample that has been edited is evaluated at
    all further steps, because its states are no such sums any more. Memory: as many x0 per sample as the longest plan
    has evaluations.

    Args:
        solver: The solver, linear and without noise.
        samples: Number of samples, B.
        fork: The plans, fitted to the solver's steps.
        mean: Evaluations to make in the mean over samples.
    """

    def __init__(self, solver: Solver, samples: int, fork: Fork, mean: float) -> None:
        super().__init__(samples)
        self.fork, most = fork, max(fork.counts)
        self.bounds = shares(fork.counts, mean).cumsum()[:-1]
        self.states = linear_states(solver)
        self.values = NodeBuffer(most + 1, samples)
        self.evaluates = np.zeros((len(fork.plans), solver.n_evals), dtype=bool)
        self.weights: Array = np.zeros((len(fork.plans), most, solver.n_evals, most + 1))
        for index, plan in enumerate(fork.plans):
            count = len(plan.nodes)
            self.evaluates[index, list(plan.nodes)] = True
            self.weights[index, :count, :, : count + 1] = plan.weights()
        self.chosen: Whole = np.zeros(samples, dtype=np.int64)
        self.used: Whole = np.zeros(samples, dtype=np.int64)
        self.last: Whole = np.full(samples, -1)
        self.free = np.zeros(samples, dtype=bool)  # edited samples
        self.fresh: list[int] = []

    def plan(self, step: int) -> Sequence[Mode]:
        planned = self.evaluates[self.chosen, step]
        self.fresh = np.flatnonzero(planned & ~self.free).tolist()
        return [Mode.FULL if now else Mode.EXTRAPOLATED for now in (planned | self.free).tolist()]

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return self.values.combined(rows, self._weights(np.asarray(rows))[:, step])

    def revise(self, state: State, x0: Tensor) -> State:
        step, rows = state.step, self.fresh
        if rows:
            fresh = taken(x0, rows)
            if step == 0:
                self.values.push(rows, _START, taken(state.x, rows))
            self._choose(np.asarray(rows), fresh)
            self.values.push(rows, float(step), fresh)
            self.used[rows] += 1
            self.last[rows] = step
        # A step beyond the evaluation too, which itself was taken with x0 as evaluated.
        late = np.flatnonzero(~self.free & (self.last >= step - 1) & (self.last >= 0))
        return self._corrected(state, late) if step and len(late) else state

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.free[np.asarray(rows, dtype=np.int64)] = True

    def _weights(self, index: Whole) -> Array:
        """Weights of the values of some samples that predict x0 at every step, (R, N, most + 1)."""
        found: Array = self.weights[self.chosen[index], self.used[index] - 1]
        return found

    def _choose(self, index: Whole, x0: Tensor) -> None:
        """Chooses the plans of the samples `index` if they have reached the fork with this evaluation, x0 (R, ...)."""
        at = np.flatnonzero(self.used[index] == self.fork.shared - 1)
        if not len(at) or len(self.fork.plans) == 1:
            return
        rows = index[at].tolist()
        weights = self.fork.plans[0].forecast(self.fork.shared - 1)
        distances = self.values.distances(rows, np.tile(weights, (1, len(at), 1)), taken(x0, at.tolist()))
        errors = np.array(Readback(distances).read()).reshape(-1)
        self.chosen[rows] = np.searchsorted(self.bounds, self.fork.ranks(errors))

    def _corrected(self, state: State, index: Whole) -> State:
        """The state with the samples `index` set to what their values tell of the plain run's state."""
        linear, rows = self.states[state.step], index.tolist()
        weights = np.einsum("tn,rnm->trm", linear[:, 1:], self._weights(index))
        weights[:, np.arange(len(rows)), self.used[index]] += linear[:, :1]
        return with_rows(state, rows, list(self.values.series(rows, weights)))
