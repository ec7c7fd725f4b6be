"""AdaptiveDiffusion: skip where the latents move evenly (Ye et al., NeurIPS 2024, arXiv 2410.09873)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ...device.indexing import renewed, taken
from ...device.readback import Readback
from ..fitting import require_falling_times, require_steps
from ..settings import check_numbers, check_whole
from .base import Reuse, ReuseRun, mean_size

_WARM_UP = 4  # steps: three differences of the latents need four


@dataclass(frozen=True)
class AdaptiveDiffusion(Reuse):
    """Skips a step if the last three moves of the latents differ little: third-order difference against first.

    With d_i = mean |x_(i+1) - x_i| of a sample over step i, step i + 1 is skipped if |(d_i + d_(i-2)) / 2 - d_(i-1)| <=
    `threshold` d_(i-1). The network's last output is reused. The first four steps are evaluated. The defaults and the
    order of decisions are those of the authors' published code, in which the bound on skips applies from the ninth step
    on.

    Attributes:
        reuse: See `Reuse`.
        threshold: Largest relative difference of a skipped step.
        max_skips: Most steps skipped in a row.
    """

    threshold: float = 0.01
    max_skips: int = 4

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", least=0)
        check_whole(self, max_skips=1)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_falling_times(solver, "adaptive-diffusion")
        require_steps(solver, "'adaptive-diffusion'", _WARM_UP + 1)
        return _Run(self, solver, shape[0])


class _Run(ReuseRun):
    criterion = "third-order difference"

    def __init__(self, settings: AdaptiveDiffusion, solver: Solver, samples: int) -> None:
        super().__init__(solver, samples, settings.reuse, settings.threshold)
        self.max_skips = settings.max_skips
        self.last: Tensor | None = None
        self.moves: tuple[list[float], ...] = ()

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        assert self.last is not None
        return self.x0_of(taken(self.last, rows), taken(x, rows), step)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if self.evaluated:
            self.last = renewed(self.last, self.output(x, x0, step), self.evaluated)
        self.moves = (Readback(mean_size(x_next - x)).read(), *self.moves)[:3]
        self.values = [math.nan] * self.samples
        if step + 1 >= _WARM_UP:
            self.values = [_unevenness(*moves) for moves in zip(*self.moves, strict=True)]
        bounded = step >= 2 * _WARM_UP
        self.decide(
            [
                value <= self.threshold and not (bounded and skips >= self.max_skips)
                for value, skips in zip(self.values, self.skips, strict=True)
            ]
        )


def _unevenness(newest: float, middle: float, oldest: float) -> float:
    """|third-order difference| of the latents, from the sizes of three moves, divided by the middle one."""
    return abs((newest + oldest) / 2 - middle) / middle if middle else math.inf
