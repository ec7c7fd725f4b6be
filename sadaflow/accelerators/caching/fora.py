"""FORA: a network's residual is reused, and computed at every n-th step (arXiv 2407.01425)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.models import Site
from sadaflow.solvers import Solver

from ..history import lagrange
from ..settings import check_whole
from .series import SeriesRun, regular_steps


@dataclass(frozen=True)
class Fora:
    """Computes the whole network at every `interval`-th step from the first on, and reuses its residual at the others.

    The residual is that of the stack of blocks, or of a U-Net's first shell. The authors reuse the outputs of every
    attention and feed-forward layer under fresh gates.

    Memory: one tensor of the residual's size per sample and guidance branch, whatever the number of steps.

    Attributes:
        interval: Distance between full steps.
    """

    interval: int = 3

    def __post_init__(self) -> None:
        check_whole(self, interval=1)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)

    def full_steps(self, steps: int) -> frozenset[int]:
        """Indices of those of `steps` steps that compute the whole network."""
        return regular_steps(steps, self.interval, 1)


class _Run(SeriesRun):
    name = "fora"

    def __init__(self, settings: Fora, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(1, solver, shape, seams, settings.full_steps)

    def forecast(self, step: int, rows: Sequence[int], site: Site) -> Tensor:
        return self.weighted(lagrange, step, rows)
