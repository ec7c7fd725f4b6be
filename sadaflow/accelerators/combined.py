"""Two accelerators on one run: the first decides which steps are evaluated, the second how."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from sadaflow.models import Seam
from sadaflow.solvers import Prediction, Solver, State

from .base import (
    Accelerator,
    BranchRun,
    CachingRun,
    ExplainedRun,
    Explanation,
    Mode,
    PlainRun,
    Run,
    fitted,
)


@dataclass(frozen=True)
class Combined:
    """`steps` decides for every sample whether the network runs at a step, and answers where it does not; `inside`
    decides how it runs where it does: in part, or with one branch of guidance.

    `steps` is not let into the network, so SADA prunes no tokens here. Where `inside` wants all of the network at a
    step that is skipped, it has it at the next one that is not. `begin` raises ValueError where both decide on the
    same: two that skip steps, or two that change an evaluation.
    """

    steps: Accelerator
    inside: Accelerator

    def fitted(self, prediction: Prediction) -> "Combined":
        return Combined(fitted(self.steps, prediction), fitted(self.inside, prediction))

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        inside = self.inside.begin(solver, shape, seams=seams)
        first, second = (type(one).__name__ for one in (self.steps, self.inside))
        refused = f"accelerators {first} and {second} cannot be combined so:"
        if _decides_how(self.steps.begin(solver, shape, seams=seams)):
            reason = "both decide how an evaluation is made, and the first has to decide which steps are evaluated"
            swapped = f"the first has to decide which steps are evaluated; put {first} second"
            raise ValueError(f"{refused} {reason if _decides_how(inside) else swapped}")
        if not _decides_how(inside):
            raise ValueError(
                f"{refused} both decide which steps are evaluated, and the second has to decide how: on a part of the "
                "network, or with one branch of guidance"
            )
        kind = _CachingRun if isinstance(inside, CachingRun) else _BranchRun
        return kind(self.steps.begin(solver, shape, seams=False), inside, shape[0])


def _decides_how(run: Run) -> bool:
    return isinstance(run, CachingRun | BranchRun)


class _Run(PlainRun):
    def __init__(self, steps: Run, inside: Run, samples: int) -> None:
        super().__init__(samples)
        self.steps, self.inside = steps, inside
        self.owed = [False] * samples
        """Samples whose last full evaluation, by `inside`, fell on a skipped step."""
        self.modes: list[Mode] = []

    def plan(self, step: int) -> Sequence[Mode]:
        runs, hows = self.steps.plan(step), self.inside.plan(step)
        self.owed = [owed or how is Mode.FULL for owed, how in zip(self.owed, hows, strict=True)]
        parts = zip(runs, hows, self.owed, strict=True)
        self.modes = [(Mode.FULL if full else how) if run.evaluates else run for run, how, full in parts]
        return self.modes

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return self.steps.estimate(step, x, rows)

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        return self.inside.seam(step, mode, rows)

    def revise(self, state: State, x0: Tensor) -> State:
        return self.steps.revise(state, x0)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.owed = [owed and not mode.evaluates for owed, mode in zip(self.owed, self.modes, strict=True)]
        self.steps.observe(step, x, x0, y, x_next)
        self.inside.observe(step, x, x0, y, x_next)

    def explain(self, step: int) -> Explanation:
        if isinstance(self.steps, ExplainedRun):
            return self.steps.explain(step)
        return Explanation("schedule", math.nan, [math.nan] * self.samples, [None] * self.samples)


class _CachingRun(_Run):
    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return cast(CachingRun, self.inside).carried_out(step, rows)


class _BranchRun(_Run):
    def learn_guidance(self, step: int, rows: Sequence[int], difference: Tensor) -> None:
        cast(BranchRun, self.inside).learn_guidance(step, rows, difference)

    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        return cast(BranchRun, self.inside).guidance(step, rows)
