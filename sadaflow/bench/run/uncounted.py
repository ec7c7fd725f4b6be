"""An accelerator whose evaluations are not counted, so that it can be timed."""

from dataclasses import dataclass
from typing import Any, cast

import torch

from sadaflow.solvers import Prediction, Solver

from ...accelerators.base import Accelerator, Run, fitted


@dataclass(frozen=True)
class Uncounted:
    """An accelerator none of whose evaluations are counted, for timing it: counting one takes as long again.

    It samples the same; in `Stats` cached evaluations count as whole ones, and those that turned out full as cached.
    """

    accelerator: Accelerator

    def fitted(self, prediction: Prediction) -> "Uncounted":
        return Uncounted(fitted(self.accelerator, prediction))

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        return cast(Run, _UncountedRun(self.accelerator.begin(solver, shape, seams=seams)))


class _UncountedRun:
    """The run itself, but for what makes it a `CachingRun`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        if name == "carried_out":
            raise AttributeError(name)
        return getattr(self._run, name)
