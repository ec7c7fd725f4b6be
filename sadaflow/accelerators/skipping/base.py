"""Skipped steps answered from the network's own outputs, as most published caches do: what rules that reuse share.

"The last output" means another x0 for each thing that a network may predict: noise held still is not velocity held
still. So outputs are kept in the network's own terms, and turned into x0 at the state where they are used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from sadaflow.solvers import Prediction, Solver, from_x0, to_x0
from sadaflow.solvers.coordinates import frame_of

from ..base import Explanation, Mode, Run


def reused_kind(kind: Prediction | None, solver: Solver) -> Prediction:
    """`kind` of prediction, checked on the solver's grid; None takes what networks on such schedules predict.

    That is flow on rectified flow and where the grid starts at alpha = 0, and noise otherwise. Raises ValueError for
    an unknown kind, and for one that says nothing about x0 somewhere on the grid.
    """
    chosen = frame_of(solver.grid, None).prediction if kind is None else kind
    probe = torch.zeros(())
    for node in solver.nodes:
        to_x0(chosen, probe, probe, node.alpha, node.sigma)
    return chosen


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Settings of a method that reuses outputs: `reuse` names what the network predicts, which is what is held.

    None takes what the denoiser says that it predicts, or else what fits the schedule (see `reused_kind`).
    """

    reuse: Prediction | None = None

    def fitted(self, prediction: Prediction) -> Self:
        return self if self.reuse is not None else replace(self, reuse=prediction)


class OutputRun(Run):
    """Speaks the network's own terms, of prediction `kind`."""

    def __init__(self, solver: Solver, samples: int, kind: Prediction | None) -> None:
        super().__init__(samples)
        self.nodes = solver.nodes
        self.kind = reused_kind(kind, solver)

    def output(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        """What the network answered at `step`, all (B, ...)."""
        return from_x0(self.kind, x0, x, self.nodes[step].alpha, self.nodes[step].sigma)

    def answer(self, output: Tensor, x: Tensor, step: int) -> Tensor:
        """The x0 that an output means at the states x of `step`."""
        return to_x0(self.kind, output, x, self.nodes[step].alpha, self.nodes[step].sigma)


class ReuseRun(OutputRun):
    """Decides on the next step in `observe`, by `decide`."""

    criterion: ClassVar[str]
    """What `values` are called."""

    def __init__(self, solver: Solver, samples: int, kind: Prediction | None, threshold: float) -> None:
        super().__init__(solver, samples, kind)
        self.threshold = threshold
        self.modes = [Mode.FULL] * samples
        self.skips = [0] * samples
        """How many steps in a row each sample has skipped."""
        self.values = [math.nan] * samples

    def plan(self, step: int) -> Sequence[Mode]:
        return self.modes

    def explain(self, step: int) -> Explanation:
        return Explanation(self.criterion, self.threshold, self.values, [None] * self.samples)

    @property
    def evaluated(self) -> list[int]:
        """The samples that the network answered at the present step."""
        return [row for row, mode in enumerate(self.modes) if mode.evaluates]

    def decide(self, skip: Sequence[bool]) -> None:
        """Settle the next step of every sample."""
        self.modes = [Mode.REUSED if one else Mode.FULL for one in skip]
        self.skips = [skips + 1 if one else 0 for skips, one in zip(self.skips, skip, strict=True)]


def mean_size(x: Tensor) -> Tensor:
    """Mean |x| over each sample of x (B, ...), (B,), in float32 at least."""
    return x.abs().flatten(1).mean(dim=1, dtype=torch.promote_types(x.dtype, torch.float32))
