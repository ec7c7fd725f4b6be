"""First-block cache (ParaAttention): the change of the first blocks decides whether the others run."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sadaflow.solvers import Solver

from ..base import Mode
from ..settings import check_numbers, check_whole
from .front import LastRest


@dataclass(frozen=True)
class FirstBlock:
    """Runs a transformer's first blocks at every step, and the others only if the output of the first ones has changed.

    The residual that the first `front` blocks add to the image tokens is compared with that of the sample's last full
    evaluation. If mean |change| / mean |residual then| is below `threshold`, the other blocks are skipped and the
    residual that they added then is added again. Each sample decides for itself, from both guidance branches together.
    The defaults are those of ParaAttention; cache-dit has `front` 8 and `warmup` 8.

    Memory: two tensors (tokens, width) per sample and guidance branch, whatever the number of steps.

    Attributes:
        threshold: Relative change below which the other blocks are skipped.
        front: Number of blocks at the start that always run.
        back: Number of blocks at the end that always run.
        warmup: Number of steps at the start that run in full; the first step always does.
        max_skips: Most skips in a row; None: no bound.
        max_cached: Most skips in a run; None: no bound.
    """

    threshold: float = 0.08
    front: int = 1
    back: int = 0
    warmup: int = 0
    max_skips: int | None = None
    max_cached: int | None = None

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", least=0, finite=False)
        check_whole(self, front=1, back=0, warmup=0)
        check_whole(self, optional=True, max_skips=0, max_cached=0)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)


class _Run(LastRest):
    name = "first-block"

    def __init__(self, settings: FirstBlock, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__((settings.front, settings.back), solver, shape, seams)
        self.settings, self.threshold = settings, settings.threshold

    def plan(self, step: int) -> Sequence[Mode]:
        settings, modes = self.settings, []
        for row in range(self.samples):
            spent = self.in_a_row[row] == settings.max_skips or self.in_all[row] == settings.max_cached
            modes.append(Mode.FULL if spent or step < max(1, settings.warmup) else Mode.CACHED)
        return modes
