"""TaylorSeer (Liu et al., ICCV 2025, arXiv 2503.06923): a network's residual is forecast by a Taylor series."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.models import Seam, Site
from sadaflow.solvers import Solver

from ...device.indexing import sent
from ..base import Mode
from ..history import RowStore
from ..settings import check_whole
from .base import Outermost, ScheduledRun


@dataclass(frozen=True)
class TaylorSeer:
    """Computes the whole network at some steps and forecasts its residual at the others.

    The forecast is a Taylor series in the step index about the last full step, with backward differences over full
    steps in place of derivatives. It is that of the residual output - input of a transformer's stack of blocks, or of a
    U-Net's first shell; the layers before and after are computed. Forecasting the residual of each block gives the same
    sum, because a forecast is linear, at many times the memory.

    Memory: `order` + 1 tensors of the residual's size per sample and guidance branch, whatever the number of steps.

    Attributes:
        interval: Distance between full steps after the first ones.
        order: Degree of the Taylor series.
        first: Number of full steps at the start.
    """

    interval: int = 6
    order: int = 1
    first: int = 3

    def __post_init__(self) -> None:
        check_whole(self, interval=1, order=0, first=1)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)

    def full_steps(self, steps: int) -> frozenset[int]:
        """Indices of those of `steps` steps that compute the whole network."""
        return frozenset([*range(self.first), *range(self.first - 1, steps, self.interval)])


class _Run(ScheduledRun):
    name = "taylorseer"
    needs = "a stack of blocks or shells that a seam reaches"

    def __init__(self, settings: TaylorSeer, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(solver, shape, seams, settings.full_steps)
        self.settings = settings
        self.last = [0] * self.samples
        self.known = [0] * self.samples
        """Number of derivatives known for each sample; the others are 0."""
        self.derivatives = [RowStore(self.samples) for _ in range(settings.order + 1)]

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def handle(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            self.met = True
            if mode is Mode.CACHED:
                return hidden + self._forecast(step, rows)
            output = fn(hidden, *args)
            self._learn(step, rows, output - hidden)
            return output

        return Outermost(handle)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        for row in rows:
            self.known[row] = 0

    def _learn(self, step: int, rows: Sequence[int], residual: Tensor) -> None:
        """Updates the backward differences at a full step from those at each sample's previous full step."""
        known = [self.known[row] if step >= self.settings.first - 1 else 0 for row in rows]
        steps, new = _along(residual, [step - self.last[row] for row in rows]), residual
        for order, store in enumerate(self.derivatives):
            old = store.take(rows) if order < max(known) else None
            store.put(rows, new)
            if old is None:
                new = torch.zeros_like(new)
            else:
                new = torch.where(_along(new, known) > order, (new - old) / steps, 0)
        for row, count in zip(rows, known, strict=True):
            self.known[row], self.last[row] = min(count, self.settings.order) + 1, step

    def _forecast(self, step: int, rows: Sequence[int]) -> Tensor:
        first = self.derivatives[0].take(rows)
        ahead = _along(first, [step - self.last[row] for row in rows])
        terms = [store.take(rows) * (ahead**k / math.factorial(k)) for k, store in enumerate(self.derivatives)]
        return torch.stack(terms).sum(dim=0)


def _along(values: Tensor, numbers: Sequence[int]) -> Tensor:
    """Numbers of the samples, shaped to broadcast with values (branches x samples, ...), in their dtype."""
    each = sent(numbers, values.device, values.dtype).repeat(values.shape[0] // len(numbers))
    return each.view(-1, *[1] * (values.dim() - 1))
