"""What accelerators that reuse the network's past outputs share, as most published caches do.

Reusing the last output yields another x0 for each prediction type: constant noise is not constant velocity. So outputs
are kept in the network's own prediction type, and converted to x0 at the state where they are used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from sadaflow.solvers import Prediction, Solver, from_x0, input_scale, to_x0
from sadaflow.solvers.coordinates import frame_of

from ..base import Explanation, Mode, Run


def reused_kind(kind: Prediction | None, solver: Solver) -> Prediction:
    """The prediction type of outputs that are reused, checked on the solver's grid.

    Args:
        kind: The network's prediction type. None takes flow on rectified flow and where the grid starts at alpha = 0,
            and noise otherwise.
        solver: The solver, with its grid.

    Raises:
        ValueError: if the type is unknown, or does not determine x0 somewhere on the grid.
    """
    chosen = frame_of(solver.grid, None).prediction if kind is None else kind
    probe = torch.zeros(())
    for node in solver.nodes:
        to_x0(chosen, probe, probe, node.alpha, node.sigma)
    return chosen


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Settings of a method that reuses outputs.

    Attributes:
        reuse: The prediction type in which outputs are reused. None takes the denoiser's `prediction`, or what fits
            the schedule if it has none (see `reused_kind`).
    """

    reuse: Prediction | None = None

    def fitted(self, prediction: Prediction) -> Self:
        """These settings for a network that predicts `prediction`, unless `reuse` is given."""
        return self if self.reuse is not None else replace(self, reuse=prediction)


class OutputRun(Run):
    """Base class of runs that convert between x0 and the network's output of prediction type `kind`."""

    def __init__(self, solver: Solver, samples: int, kind: Prediction | None) -> None:
        super().__init__(samples)
        self.nodes = solver.nodes
        self.kind = reused_kind(kind, solver)

    def output(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        """The network's output at `step` for states x and predictions x0; all are (B, ...)."""
        return from_x0(self.kind, x0, x, self.nodes[step].alpha, self.nodes[step].sigma)

    def network_input(self, x: Tensor, step: int) -> Tensor:
        """The states x of `step` as the network is given them: x itself, unless the prediction is preconditioned."""
        scale = input_scale(self.kind, self.nodes[step].alpha, self.nodes[step].sigma)
        return x if scale == 1 else scale * x

    def x0_of(self, output: Tensor, x: Tensor, step: int) -> Tensor:
        """The x0 of an output at the states x of `step`."""
        return to_x0(self.kind, output, x, self.nodes[step].alpha, self.nodes[step].sigma)


class ReuseRun(OutputRun):
    """Base class of runs that decide on the next step in `observe`, by calling `decide`.

    Attributes:
        criterion: Name of `values`, for `explain`.
        threshold: Threshold of `values`.
        modes: Mode of each sample at the present step.
        skips: Number of steps in a row that each sample has skipped.
        values: The criterion for each sample, nan where the schedule decides.
    """

    criterion: ClassVar[str]

    def __init__(self, solver: Solver, samples: int, kind: Prediction | None, threshold: float) -> None:
        super().__init__(solver, samples, kind)
        self.threshold = threshold
        self.modes = [Mode.FULL] * samples
        self.skips = [0] * samples
        self.values = [math.nan] * samples

    def plan(self, step: int) -> Sequence[Mode]:
        return self.modes

    def explain(self, step: int) -> Explanation:
        return Explanation(self.criterion, self.threshold, self.values, [None] * self.samples)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        for row in rows:
            self.modes[row], self.skips[row] = Mode.FULL, 0

    @property
    def evaluated(self) -> list[int]:
        """Indices of the samples that are evaluated at the present step."""
        return [row for row, mode in enumerate(self.modes) if mode.evaluates]

    def decide(self, skip: Sequence[bool]) -> None:
        """Sets the mode of every sample at the next step."""
        self.modes = [Mode.REUSED if skipped else Mode.FULL for skipped in skip]
        self.skips = [skips + 1 if skipped else 0 for skips, skipped in zip(self.skips, skip, strict=True)]


def mean_size(x: Tensor) -> Tensor:
    """Mean |x| of each sample of x (B, ...), as (B,), in float32 or wider."""
    return x.abs().flatten(1).mean(dim=1, dtype=torch.promote_types(x.dtype, torch.float32))
