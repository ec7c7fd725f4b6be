"""Combines two accelerators: the first decides which steps are evaluated, the second how."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sadaflow.solvers import Prediction, Solver, State

from .base import Accelerator, Explanation, Mode, Run
from .fitting import calibrated, fitted
from .forwarding import ForwardingRun, begin_run


@dataclass(frozen=True)
class Combined:
    """One accelerator chooses the steps that are evaluated; another makes these evaluations cheaper.

    The first cannot enter the network, so SADA prunes no tokens here. If `inside` plans a full evaluation at a step
    that is skipped, the next step that is not skipped is evaluated in full.

    Attributes:
        steps: Decides for every sample whether the network runs at a step, and estimates x0 where it does not.
        inside: Decides how the network runs: in part, or with one branch of guidance.
    """

    steps: Accelerator
    inside: Accelerator

    def fitted(self, prediction: Prediction) -> "Combined":
        """Both accelerators for a network that predicts `prediction`."""
        return Combined(fitted(self.steps, prediction), fitted(self.inside, prediction))

    def calibrated(self, calibrations: Sequence[Any], solver: Solver) -> "Combined":
        """Both accelerators with a calibration that fits."""
        return Combined(calibrated(self.steps, calibrations, solver), calibrated(self.inside, calibrations, solver))

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        """Starts a run of each.

        Raises:
            ValueError: if both skip steps, if both change how an evaluation is made, or if they are in the wrong order.
        """
        inside = begin_run(self.inside, solver, shape, seams=seams)
        first, second = type(self.steps).__name__, type(self.inside).__name__
        refused = f"accelerators {first} and {second} cannot be combined so:"
        if _decides_how(begin_run(self.steps, solver, shape, seams=seams)):
            reason = "both decide how an evaluation is made, and the first has to decide which steps are evaluated"
            swapped = f"the first has to decide which steps are evaluated; put {first} second"
            raise ValueError(f"{refused} {reason if _decides_how(inside) else swapped}")
        if not _decides_how(inside):
            raise ValueError(
                f"{refused} both decide which steps are evaluated, and the second has to decide how: on a part of the "
                "network, or with one branch of guidance"
            )
        return _Run(begin_run(self.steps, solver, shape, seams=False), inside, shape[0])


def _decides_how(run: Run) -> bool:
    return run.capabilities.caches or run.capabilities.omits_negative


class _Run(ForwardingRun):
    """Forwards to the second accelerator's run, except for the choice of steps and what depends on it."""

    def __init__(self, steps: Run, inside: Run, samples: int) -> None:
        super().__init__(inside, samples)
        self.capabilities = replace(inside.capabilities, explains=True)
        self.steps = steps
        self.owed = [False] * samples
        """Samples whose last full evaluation, as planned by the inner run, fell on a skipped step."""
        self.modes: list[Mode] = []

    def plan(self, step: int) -> Sequence[Mode]:
        runs, hows = self.steps.plan(step), self.inner.plan(step)
        self.owed = [owed or how is Mode.FULL for owed, how in zip(self.owed, hows, strict=True)]
        parts = zip(runs, hows, self.owed, strict=True)
        self.modes = [(Mode.FULL if full else how) if run.evaluates else run for run, how, full in parts]
        return self.modes

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return self.steps.estimate(step, x, rows)

    def revise(self, state: State, x0: Tensor) -> State:
        return self.steps.revise(state, x0)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.owed = [owed and not mode.evaluates for owed, mode in zip(self.owed, self.modes, strict=True)]
        self.steps.observe(step, x, x0, y, x_next)
        self.inner.observe(step, x, x0, y, x_next)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.steps.edited(step, rows)
        super().edited(step, rows)

    def explain(self, step: int) -> Explanation:
        if self.steps.capabilities.explains:
            return self.steps.explain(step)
        return Explanation("schedule", math.nan, [math.nan] * self.samples, [None] * self.samples)
