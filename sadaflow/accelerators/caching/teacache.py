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
from ..settings import check_choice, check_numbers, check_sequence, check_whole
from .base import InsideRun, Outermost, relative_change
from .published import TEACACHE, published
from .residual import Residuals

FLUX: Final = TEACACHE["flux"]
"""The polynomial published for Flux.1, highest power first."""


@dataclass(frozen=True)
class TeaCache:
    """Skips a transformer's blocks while the estimated change of their output is below a threshold.

    The indicator is the input of the first block's attention: the image tokens, normalised and modulated by the time.
    Its relative L1 distance to that of the previous step is mapped by a polynomial and summed since the blocks last
    ran. While the sum is below `threshold`, the residual that the blocks last added is added again. The first and the
    last step are computed in full. Each sample decides for itself, from both guidance branches together. For Wan the
    authors look at the embedding of the time alone, which is the same for all samples (`caching.published`).

    Memory: two tensors (tokens, width) per sample and guidance branch, whatever the number of steps.

    Attributes:
        threshold: Sum from which on the blocks run.
        coefficients: The polynomial, highest power first, or a name in `published.TEACACHE`. See
            `calibration.teacache_coefficients` for other networks.
        indicator: "input" as described, or "time": what the trunk is given of the time alone.
        first: Number of steps that are computed in full at the start.
        last: Number of steps that are computed in full at the end.
    """

    threshold: float = 0.6
    coefficients: tuple[float, ...] | str = FLUX
    indicator: str = "input"
    first: int = 1
    last: int = 1

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", least=0, finite=False)
        if not isinstance(self.coefficients, str):
            check_sequence(self, "coefficients")
        published(TEACACHE, self.coefficients)
        check_choice(self, "indicator", ("input", "time"))
        check_whole(self, first=1, last=0)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)


class _Run(InsideRun):
    name = "teacache"
    sites = frozenset({"trunk"})
    needs = "a transformer whose stack of blocks is one site with a probe (Flux), or with the time for indicator=time"

    def __init__(self, settings: TeaCache, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(solver, shape, seams)
        self.settings = settings
        self.coefficients = published(TEACACHE, settings.coefficients)
        self.indicator, self.residuals = RowStore(self.samples), Residuals(self.samples)
        self.change = [0.0] * self.samples
        self.values = [float("nan")] * self.samples
        self.computed = [True] * self.samples

    def plan(self, step: int) -> Sequence[Mode]:
        free = range(self.settings.first, self.steps - self.settings.last)
        return [Mode.CACHED if step in free else Mode.FULL] * self.samples

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return [Mode.FULL if self.computed[row] else Mode.CACHED for row in rows]

    def explain(self, step: int) -> Explanation:
        return Explanation("estimated change", self.settings.threshold, self.values, [None] * self.samples)

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def handle(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            seen = self._seen(site, hidden, *args)
            if seen is None:
                return fn(hidden, *args)
            self.met = True
            self._decide(seen, mode, rows)
            self.indicator.put(rows, seen)
            return self.residuals.apply(fn, [row for row in rows if self.computed[row]], rows, hidden, *args)

        return Outermost(handle, decides=True)

    def _seen(self, site: Site, hidden: Tensor, *args: Tensor | None) -> Tensor | None:
        """The indicator at a site, (branches x samples, ...); None if the site does not offer it."""
        if self.settings.indicator == "input":
            return None if site.probe is None else site.probe(hidden, *args)
        return None if site.time is None else args[site.time]

    def _decide(self, seen: Tensor, mode: Mode, rows: Sequence[int]) -> None:
        distances = [float("nan")] * len(rows)
        if mode is Mode.CACHED:
            distances = relative_change(seen, self.indicator.take(rows), len(rows))
        for row, distance in zip(rows, distances, strict=True):
            self.values[row] = self.change[row] + polynomial(self.coefficients, distance)
            self.computed[row] = not self.values[row] < self.settings.threshold  # a full step has nan
            self.change[row] = 0.0 if self.computed[row] else self.values[row]


def polynomial(coefficients: Sequence[float], at: float) -> float:
    """The value at `at` of a polynomial, its highest power first."""
    value = 0.0
    for coefficient in coefficients:
        value = value * at + coefficient
    return value
