"""HiCache: a network's residual is forecast by Hermite polynomials (ICLR 2026, arXiv 2508.16984)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sadaflow.models import Site
from sadaflow.solvers import Solver

from ..predictors import hermite
from ..settings import check_numbers, check_whole
from .series import SeriesRun, regular_steps


@dataclass(frozen=True)
class HiCache:
    """Computes the whole network at some steps and forecasts its residual at the others, as TaylorSeer does.

    In place of the powers u^k of the steps since the last full one stand scale^k H_k(scale u) with the physicists'
    Hermite polynomials H_k. With scale sqrt(1/2) the linear term is that of TaylorSeer; the default halves it. The
    residual is that of the stack of blocks, or of a U-Net's first shell, where the authors forecast every module. The
    defaults are those of the authors' code; its launcher has interval 5, order 2, scale 0.7.

    Memory: `order` + 1 tensors of the residual's size per sample and guidance branch, whatever the number of steps.

    Attributes:
        interval: Distance between full steps after the first ones.
        order: Degree of the series.
        first: Number of full steps at the start.
        scale: Scale of the polynomials.
    """

    interval: int = 6
    order: int = 1
    first: int = 3
    scale: float = 0.5

    def __post_init__(self) -> None:
        check_whole(self, interval=1, order=0, first=1)
        check_numbers(self, "scale", above=0)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)

    def full_steps(self, steps: int) -> frozenset[int]:
        """Indices of those of `steps` steps that compute the whole network."""
        return regular_steps(steps, self.interval, self.first)


class _Run(SeriesRun):
    name = "hicache"

    def __init__(self, settings: HiCache, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(settings.order + 1, solver, shape, seams, settings.full_steps)
        self.rule = partial(hermite, order=settings.order, scale=settings.scale)

    def forecast(self, step: int, rows: Sequence[int], site: Site) -> Tensor:
        return self.weighted(self.rule, step, rows)
