"""An accelerator whose evaluations are not counted, so that it can be timed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from sadaflow.solvers import Prediction, Solver

from ...accelerators.base import Accelerator, Run
from ...accelerators.fitting import calibrated, fitted
from ...accelerators.forwarding import ForwardingRun


@dataclass(frozen=True)
class Uncounted:
    """Wraps an accelerator so that the operations of its evaluations are not counted, for timing.

    Counting an evaluation doubles its time. Samples are the same. In `Stats` a cached evaluation counts as 1, and one
    that turned out full inside the network is listed as cached.

    Attributes:
        accelerator: The wrapped accelerator.
    """

    accelerator: Accelerator

    def fitted(self, prediction: Prediction) -> "Uncounted":
        """The wrapped accelerator for a network that predicts `prediction`."""
        return Uncounted(fitted(self.accelerator, prediction))

    def calibrated(self, calibrations: Sequence[Any], solver: Solver) -> "Uncounted":
        """The wrapped accelerator with a calibration that fits."""
        return Uncounted(calibrated(self.accelerator, calibrations, solver))

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        """Starts a run of the wrapped accelerator that does not declare that it caches."""
        run = ForwardingRun(self.accelerator.begin(solver, shape, seams=seams), shape[0])
        run.capabilities = replace(run.capabilities, caches=False)
        return run
