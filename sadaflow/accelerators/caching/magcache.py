"""MagCache (Ma et al., NeurIPS 2025, arXiv 2506.09045): residuals are reused while their magnitude hardly changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from sadaflow.models import Seam, Site
from sadaflow.solvers import Solver

from ..base import Mode
from ..settings import check_fractions, check_numbers, check_sequence, check_whole
from .base import Outermost, ScheduledRun
from .published import MAGCACHE, published
from .residual import Residuals

FLUX_DEV: Final = MAGCACHE["flux-dev"]
"""The ratios published for Flux.1 dev at 28 steps."""


@dataclass(frozen=True)
class MagCache:
    """Reuses the network's residual while its magnitude is predicted to change little.

    The ratios of the residual's magnitude from step to step are recorded once for a network, a solver and a grid (see
    `calibration.magcache_ratios`). A step is skipped while the sum of |1 - product of the ratios since the last full
    step| is at most `threshold`. The schedule is thus known beforehand and the same for every sample.

    A skipped step adds the residual of the last full step: that of a transformer's stack of blocks, or of a U-Net's
    first shell. Memory: one tensor of that size per sample and guidance branch, whatever the number of steps.

    Attributes:
        threshold: Largest accumulated error of a skipped step.
        max_skips: Most steps skipped in a row.
        retention: Fraction of the steps, from the start, that are all full.
        ratios: Ratio of each step, the first 1, or a name in `published.MAGCACHE`. With another number of steps each
            step uses the nearest one.
        never: Indices in `ratios` of steps that are always full.
    """

    threshold: float = 0.24
    max_skips: int = 5
    retention: float = 0.1
    ratios: tuple[float, ...] | str = FLUX_DEV
    never: tuple[int, ...] = (11,)

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", least=0, finite=False)
        check_whole(self, max_skips=0)
        check_fractions(self, "retention")
        if not isinstance(self.ratios, str):
            check_sequence(self, "ratios")
        published(MAGCACHE, self.ratios)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)

    def full_steps(self, steps: int) -> frozenset[int]:
        """Indices of those of `steps` steps that compute the whole network."""
        ratios, full, product, error, skips = published(MAGCACHE, self.ratios), [], 1.0, 0.0, 0
        for step in range(steps):
            index = round(step * (len(ratios) - 1) / max(1, steps - 1))
            if 0 < step >= int(self.retention * steps + 0.5):
                product *= ratios[index]
                skips += 1
                error += abs(1 - product)
                if error <= self.threshold and skips <= self.max_skips and index not in self.never:
                    continue
                product, error, skips = 1.0, 0.0, 0
            full.append(step)
        return frozenset(full)


class _Run(ScheduledRun):
    name = "magcache"
    needs = "a stack of blocks or shells that a seam reaches"

    def __init__(self, settings: MagCache, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(solver, shape, seams, settings.full_steps)
        self.residuals = Residuals(self.samples)

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def handle(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            self.met = True
            return self.residuals.apply(fn, rows if mode is Mode.FULL else [], rows, hidden, *args)

        return Outermost(handle)
