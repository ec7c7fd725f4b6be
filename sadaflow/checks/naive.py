"""Methods without any idea, which others are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver, State

from ..accelerators.base import Mode, Run
from ..device.indexing import put, taken


class Never:
    """An accelerator that skips nothing."""

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        """Starts a run that evaluates every step."""
        return Run(shape[0])


@dataclass(frozen=True)
class Holding:
    """Evaluates given samples at given steps, and holds their last x0 at the others.

    Attributes:
        full: `full[sample][step]`: whether it is evaluated. The first step always is.
    """

    full: Sequence[Sequence[bool]]

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        """Starts a run on a batch of latents of `shape`."""
        return _Run(self.full, shape[0])


class _Run(Run):
    def __init__(self, full: Sequence[Sequence[bool]], samples: int) -> None:
        super().__init__(samples)
        self.full = full
        self.held = torch.empty(0)

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.FULL if step == 0 or line[step] else Mode.REUSED for line in self.full]

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return taken(self.held, rows)

    def revise(self, state: State, x0: Tensor) -> State:
        fresh = [row for row, mode in enumerate(self.plan(state.step)) if mode.evaluates]
        if len(fresh) == self.samples:
            self.held = x0.clone()
        else:
            put(self.held, fresh, taken(x0, fresh))
        return state
