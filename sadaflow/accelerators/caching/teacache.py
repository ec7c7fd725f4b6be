"""TeaCache (Liu et al., CVPR 2025, arXiv 2411.19108): blocks are skipped while their input changes little."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from sadaflow.models import Seam, Site
from sadaflow.solvers import Solver

from ..base import Explanation, Mode
from ..history import RowStore
from ..settings import check_numbers, check_sequence
from .base import InsideRun, Outermost, relative_change
from .residual import Residuals

FLUX: Final = (4.98651651e02, -2.83781631e02, 5.58554382e01, -3.82021401e00, 2.64230861e-01)
"""The polynomial published for Flux.1, highest power first."""


@dataclass(frozen=True)
class TeaCache:
    """Skips a transformer's blocks while the estimated change of their output is below a threshold.

    The indicator is the input of the first block's attention: the image tokens, normalised and modulated by the time.
    Its relative L1 distance to that of the previous step is mapped by a polynomial and summed since the blocks last
    ran. While the sum is below `threshold`, the residual that the blocks last added is added again. The first and the
    last step are computed in full. Each sample decides for itself, from both guidance branches together.

    Memory: two tensors (tokens, width) per sample and guidance branch, whatever the number of steps.

    Attributes:
        threshold: Sum from which on the blocks run.
        coefficients: The polynomial, highest power first; see `calibration.teacache_coefficients` for other networks.
    """

    threshold: float = 0.6
    coefficients: tuple[float, ...] = FLUX

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", least=0, finite=False)
        check_sequence(self, "coefficients")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)


class _Run(InsideRun):
    name = "teacache"
    sites = frozenset({"trunk"})
    needs = "a transformer whose stack of blocks is one site with a probe (Flux)"

    def __init__(self, settings: TeaCache, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(solver, shape, seams)
        self.settings = settings
        self.indicator, self.residuals = RowStore(self.samples), Residuals(self.samples)
        self.change = [0.0] * self.samples
        self.values = [float("nan")] * self.samples
        self.computed = [True] * self.samples

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.CACHED if 0 < step < self.steps - 1 else Mode.FULL] * self.samples

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return [Mode.FULL if self.computed[row] else Mode.CACHED for row in rows]

    def explain(self, step: int) -> Explanation:
        return Explanation("estimated change", self.settings.threshold, self.values, [None] * self.samples)

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def handle(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            if site.probe is None:
                return fn(hidden, *args)
            self.met = True
            modulated = site.probe(hidden, *args)
            self._decide(modulated, mode, rows)
            self.indicator.put(rows, modulated)
            return self.residuals.apply(fn, [row for row in rows if self.computed[row]], rows, hidden, *args)

        return Outermost(handle, decides=True)

    def _decide(self, modulated: Tensor, mode: Mode, rows: Sequence[int]) -> None:
        distances = [float("nan")] * len(rows)
        if mode is Mode.CACHED:
            distances = relative_change(modulated, self.indicator.take(rows), len(rows))
        for row, distance in zip(rows, distances, strict=True):
            self.values[row] = self.change[row] + polynomial(self.settings.coefficients, distance)
            self.computed[row] = not self.values[row] < self.settings.threshold  # a full step has nan
            self.change[row] = 0.0 if self.computed[row] else self.values[row]


def polynomial(coefficients: Sequence[float], at: float) -> float:
    """The value at `at` of a polynomial, its highest power first."""
    value = 0.0
    for coefficient in coefficients:
        value = value * at + coefficient
    return value
