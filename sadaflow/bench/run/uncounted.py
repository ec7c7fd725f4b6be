"""Wraps an accelerator so that the cost of its evaluations is not counted, for timing."""

from dataclasses import dataclass
from typing import Any, cast

import torch

from sadaflow.solvers import Prediction, Solver

from ...accelerators.base import Accelerator, Run, fitted


@dataclass(frozen=True)
class Uncounted:
    """An accelerator whose evaluations are not counted. Counting takes as long as an evaluation, which would be timed.

    The samples are the same. In `Stats` a cached evaluation counts as a full one, and its mode is cached in any case.

    Attributes:
        accelerator: The accelerator that is wrapped.
    """

    accelerator: Accelerator

    def fitted(self, prediction: Prediction) -> "Uncounted":
        return Uncounted(fitted(self.accelerator, prediction))

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        return cast(Run, _UncountedRun(self.accelerator.begin(solver, shape, seams=seams)))


class _UncountedRun:
    """The run without the attribute that makes it a `CachingRun`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        if name == "carried_out":
            raise AttributeError(name)
        return getattr(self._run, name)
