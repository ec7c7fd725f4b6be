"""DiCache: the first blocks probe how much has changed, and align the cached residual (arXiv 2508.17356)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ...device.indexing import index_of
from ...device.readback import Readback
from ..base import Mode
from ..history import RowStore
from ..settings import check_choice, check_fractions, check_numbers, check_whole
from .base import mean_sizes
from .front import FrontRun


@dataclass(frozen=True)
class DiCache:
    """Runs a transformer's first blocks at every step, and skips the others while the probe has changed little.

    With y the image tokens after the first blocks and z those before, the error of a step is the relative L1 change of
    y since the step before, or with `error` "difference" the difference of those of y and of z. While its sum since
    the last full evaluation is below `threshold`, the other blocks are skipped. What all blocks add to z is then

        R_2 + gamma (R_1 - R_2),  gamma = mean |q - q_2| / mean |q_1 - q_2| within 1 and `most`,

    with R_1 and R_2 what they added at the last two full evaluations, and q what the first blocks add. The steps in the
    first `retention` of the run, and the last one, run in full. The defaults are those of the authors' code for Flux.1
    at 30 steps; Wan 2.1 has threshold 0.08, most 2, and HunyuanVideo threshold 0.1; both may skip the last step.

    Memory: five tensors (tokens, width) per sample and guidance branch, or six, whatever the number of steps.

    Attributes:
        threshold: Sum of errors from which on all blocks run.
        probe: Number of first blocks.
        retention: Fraction of the steps, from the start, that run in full.
        most: Largest gamma; 1 reuses the last residual.
        error: "probe" or "difference".
        last: Number of steps at the end that run in full.
    """

    threshold: float = 0.4
    probe: int = 1
    retention: float = 0.2
    most: float = 1.5
    error: str = "probe"
    last: int = 1

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", least=0, finite=False)
        check_numbers(self, "most", least=1)
        check_fractions(self, "retention")
        check_whole(self, probe=1, last=0)
        check_choice(self, "error", ("probe", "difference"))

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)


class _Run(FrontRun):
    name = "dicache"
    criterion = "accumulated change of the probe"

    def __init__(self, settings: DiCache, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__((settings.probe, 0), solver, shape, seams)
        self.settings, self.threshold = settings, settings.threshold
        self.free = range(int(settings.retention * self.steps) + 1, self.steps - settings.last)
        self.before, self.input = RowStore(self.samples), RowStore(self.samples)
        self.probes = (RowStore(self.samples), RowStore(self.samples))
        """What the first blocks added at each sample's last full evaluation, and at the one before it."""
        self.residuals = (RowStore(self.samples), RowStore(self.samples))
        self.sums = [0.0] * self.samples
        self.forgotten: frozenset[int] = frozenset()  # samples whose past evaluations are not theirs any more

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.CACHED if step in self.free else Mode.FULL] * self.samples

    def decide(self, change: Tensor, image: Tensor, mode: Mode, rows: Sequence[int]) -> None:
        errors = self._errors(change, image, rows) if mode is Mode.CACHED else [float("nan")] * len(rows)
        self.before.put(rows, image)
        if self.settings.error == "difference":
            self.input.put(rows, image - change)
        for row, error in zip(rows, errors, strict=True):
            self.values[row] = self.sums[row] + error
            self.computed[row] = not self.values[row] < self.threshold  # a full step has nan
            self.sums[row] = 0.0 if self.computed[row] else self.values[row]

    def _errors(self, change: Tensor, image: Tensor, rows: Sequence[int]) -> list[float]:
        moved = _relative(image, self.before.take(rows), len(rows))
        if self.settings.error == "difference":
            moved = (moved - _relative(image - change, self.input.take(rows), len(rows))).abs()
        return Readback(moved).read()

    def learn(self, rows: Sequence[int], change: Tensor, rest: Tensor) -> None:
        for (newest, older), fresh in ((self.probes, change), (self.residuals, change + rest)):
            older.put(rows, newest.take(rows) if newest else fresh)
            newest.put(rows, fresh)
            if begun := [index for index, row in enumerate(rows) if row in self.forgotten]:
                own = fresh.unflatten(0, (-1, len(rows))).index_select(1, index_of(begun, fresh.device))
                older.put([rows[index] for index in begun], own.flatten(0, 1))
        self.forgotten -= frozenset(rows)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.forgotten |= frozenset(rows)

    def rest_of(self, rows: Sequence[int], change: Tensor) -> Tensor:
        (probe, probe_before), (residual, residual_before) = (
            [store.take(rows) for store in pair] for pair in (self.probes, self.residuals)
        )
        moved, span = mean_sizes(change - probe_before, len(rows)), mean_sizes(probe - probe_before, len(rows))
        gamma = torch.where(span > 0, moved / span, 1.0).clamp(1.0, self.settings.most).to(change.dtype)
        along = gamma.repeat(len(change) // len(rows)).view(-1, *[1] * (change.dim() - 1))
        return residual_before + along * (residual - residual_before) - change


def _relative(new: Tensor, old: Tensor, samples: int) -> Tensor:
    """Mean |new - old| / mean |old| of each sample, over all branches, (samples,)."""
    return mean_sizes(new - old, samples) / mean_sizes(old, samples)
