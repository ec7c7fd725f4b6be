"""A schedule as an accelerator: a given set of steps is evaluated, and a chosen rule predicts the others."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Prediction, Solver, State

from ...device.indexing import taken
from ..base import Mode
from ..fitting import require_falling_times, require_steps
from ..history import Array, NodeBuffer
from ..predictors import PREDICTORS, Weights, positions
from ..replay import Replay
from ..settings import check_choice
from ..steps.choice import Choice, check_choice_of_steps, mask_of_choice
from ..steps.searched import read_searched
from .base import OutputRun
from .evaluated import Evaluated

_DEFAULT = "linear"


@dataclass(frozen=True)
class Schedule:
    """Evaluates the steps of a given set, the same for every sample, and predicts x0 at the others.

    Attributes:
        evaluated: The evaluated steps: the name of a published set (`steps.published.PUBLISHED`), a mask as "1101" or
            as bools, indices, fractions of the run (0.0 the first step, 1.0 the last), or the .json file of a search
            (`sadaflow schedule`). A file is read when the object is made, and replaced by the mask that it holds.
        predictor: A key of `PREDICTORS`. None takes that of the file, or "linear".
        variable: Prediction type of the values that are predicted: "x0", "eps", "v" or "flow". None takes the
            denoiser's `prediction`, or what fits the schedule if it has none (see `reused_kind`).
        correct: Whether skipped steps are taken again after each evaluation, with x0 interpolated through it as well.
            None takes what the file says, or False.

    Raises:
        ValueError: if a setting is unknown or malformed, or the file cannot be read as a schedule.
    """

    evaluated: Choice = "scm-fast"
    predictor: str | None = None
    variable: Prediction | None = "x0"
    correct: bool | None = None

    def __post_init__(self) -> None:
        predictor, correct = _DEFAULT, False
        if isinstance(self.evaluated, str) and self.evaluated.endswith(".json"):
            found = read_searched(self.evaluated)
            object.__setattr__(self, "evaluated", found.mask)
            predictor, correct = found.predictor, found.correct
        if self.predictor is None:
            object.__setattr__(self, "predictor", predictor)
        if self.correct is None:
            object.__setattr__(self, "correct", correct)
        check_choice(self, "predictor", tuple(PREDICTORS))
        check_choice_of_steps(self.evaluated)

    def fitted(self, prediction: Prediction) -> "Schedule":
        """These settings for a network that predicts `prediction`, unless `variable` is given."""
        return self if self.variable is not None else replace(self, variable=prediction)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        """Starts a run.

        Raises:
            ValueError: if the set does not fit the solver's steps, or if a skipped step has no evaluation before it.
        """
        require_falling_times(solver, "schedule")
        require_steps(solver, "'schedule'", 2)
        return _Run(self, solver, shape[0], mask_of_choice(self.evaluated, solver.n_evals))


class _Run(OutputRun):
    def __init__(self, settings: Schedule, solver: Solver, samples: int, mask: Sequence[bool]) -> None:
        super().__init__(solver, samples, settings.variable)
        self.mask = mask
        predictor = PREDICTORS[settings.predictor or _DEFAULT]
        self.predictor, self.at = predictor, positions(solver, predictor.axis)
        self.mode = Mode.EXTRAPOLATED if self.kind in ("x0", "sample") else Mode.REUSED
        self.past = NodeBuffer(predictor.nodes + 1, samples)
        self.replay = Replay(solver, samples) if settings.correct else None
        # What is interpolated is x0, whatever is extrapolated.
        self.clean = NodeBuffer(predictor.nodes + 1, samples) if self.mode is Mode.REUSED else self.past
        self.evaluated = Evaluated(samples)
        self._check_start()

    def _check_start(self) -> None:
        known = next(step for step, at in enumerate(self.at) if math.isfinite(at))
        if missing := [step for step in range(known + 1) if not self.mask[step]]:
            reason = "" if missing[0] == 0 else ", because pure noise, where the first step is, has no log-SNR"
            raise ValueError(f"accelerator 'schedule' needs step {missing[0]} to be evaluated{reason}")

    def plan(self, step: int) -> Sequence[Mode]:
        return self.evaluated.plan(self.mask[step], self.mode)

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        times = self.past.times[np.asarray(rows), : self.predictor.nodes]
        output = self.past.combined(rows, self.predictor.weights(times, self.at[step]))
        return self.x0_of(output, taken(x, rows), step)

    def revise(self, state: State, x0: Tensor) -> State:
        rows, at = self.evaluated.rows, self.at[state.step]
        if not rows:
            return state
        self.past.push(rows, at, taken(self.output(state.x, x0, state.step), rows))
        if self.replay is None:
            return state
        if self.clean is not self.past:
            self.clean.push(rows, at, taken(x0, rows))
        return self.replay.corrected(state, rows, self._interpolated)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.evaluated.edited(rows)
        for nodes in (self.past, self.clean):
            nodes.forget(rows)
        if self.replay is not None:
            self.replay.forget(rows)

    def _interpolated(self, rows: Sequence[int], steps: Sequence[int]) -> Iterator[Tensor]:
        at = np.array([self.at[step] for step in steps])[:, None]
        times = self.clean.times[np.asarray(rows)]
        return self.clean.series(rows, _for_each(self.predictor.between, times, at))


def _for_each(weights: Weights, times: Array, at: Array) -> Array:
    """Weights (S, R, n) of nodes (R, n) for each of the positions (S, 1)."""
    shape = (len(at), *times.shape)
    return weights(np.broadcast_to(times, shape), np.broadcast_to(at, shape[:2]))
