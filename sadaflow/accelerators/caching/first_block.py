"""First-block cache (ParaAttention) and its extension DBCache (cache-dit): the first blocks predict the others."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.models import Seam, Site
from sadaflow.solvers import Solver

from ...device.indexing import index_of, put, taken
from ..base import Explanation, Mode
from ..history import RowStore
from ..settings import check_numbers, check_whole
from .base import InsideRun, batch_indices, on_some, relative_change


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


class _Run(InsideRun):
    name = "first-block"
    sites = frozenset({"trunk"})

    def __init__(self, settings: FirstBlock, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(solver, shape, seams)
        self.settings = settings
        self.needs = f"a transformer of more than {settings.front + settings.back} blocks (Flux)"
        self.blocks = 0
        self.front, self.rest = RowStore(self.samples), RowStore(self.samples)
        self.in_a_row, self.in_all = [0] * self.samples, [0] * self.samples
        self.values = [float("nan")] * self.samples
        self.computed = [True] * self.samples

    def plan(self, step: int) -> Sequence[Mode]:
        settings, modes = self.settings, []
        for row in range(self.samples):
            spent = self.in_a_row[row] == settings.max_skips or self.in_all[row] == settings.max_cached
            modes.append(Mode.FULL if spent or step < max(1, settings.warmup) else Mode.CACHED)
        return modes

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return [Mode.FULL if self.computed[row] else Mode.CACHED for row in rows]

    def explain(self, step: int) -> Explanation:
        return Explanation("change of the first block", self.settings.threshold, self.values, [None] * self.samples)

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        return _Evaluation(self, mode, rows)

    def decide(self, change: Tensor, mode: Mode, rows: Sequence[int]) -> None:
        """Decides which samples run the other blocks.

        Args:
            change: What the first blocks added to the image tokens, (branches x len(rows), tokens, width).
            mode: The mode in which the samples are evaluated.
            rows: Indices of the samples.
        """
        changes = [float("nan")] * len(rows)
        if mode is Mode.CACHED:
            changes = relative_change(change, self.front.take(rows), len(rows))
        for row, value in zip(rows, changes, strict=True):
            self.values[row] = value
            self.computed[row] = not value < self.settings.threshold  # a full step has nan
            self.in_a_row[row] = 0 if self.computed[row] else self.in_a_row[row] + 1
            self.in_all[row] += not self.computed[row]


class _Evaluation:
    """The seam of one evaluation of the samples `rows`. It counts the blocks inside the trunk."""

    decides = True  # its decision depends on the values it sees

    def __init__(self, run: _Run, mode: Mode, rows: Sequence[int]) -> None:
        self.run, self.mode, self.rows = run, mode, list(rows)
        self.front, self.back = run.settings.front, run.settings.back
        self.inside, self.index = False, 0
        self.inputs: deque[Tensor] = deque(maxlen=max(1, self.back))  # of the last blocks so far
        self.start = self.behind_front = self.behind_front_image = self.change = torch.empty(0)

    def __call__(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        if site.kind == "trunk":
            return self._trunk(fn, hidden, *args)
        return self._block(site, fn, hidden, *args) if site.kind == "block" and self.inside else fn(hidden, *args)

    def _where(self, computed: bool) -> list[int]:
        """Positions in `rows` of the samples that run all blocks, or of the others."""
        return [index for index, row in enumerate(self.rows) if self.run.computed[row] is computed]

    def _trunk(self, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        self.inside = True
        output = fn(hidden, *args)
        self.inside = False
        run, chosen = self.run, self._where(True)
        if self.index <= self.front + self.back:
            return output  # too few blocks: refused after the first evaluation
        run.met, run.blocks = True, self.index
        if chosen:
            samples = [self.rows[index] for index in chosen]
            at = batch_indices(output, len(self.rows), chosen)
            start, end = (self.behind_front, self.inputs[0]) if self.back else (self.behind_front_image, output)
            run.front.put(samples, taken(self.change, at))
            run.rest.put(samples, taken(end - start, at))
        return output if self.back else self._with_rest(output)

    def _block(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        index, last = self.index, self.run.blocks - self.back  # index of the first of the last blocks, once known
        self.index += 1
        if index == 0:
            self.start = hidden
        if self.back and self.run.blocks and index == last:
            hidden = self._with_rest(hidden)
        self.inputs.append(hidden)
        if index >= self.front and not (self.run.blocks and index >= last):
            return self._middle(fn, hidden, *args)
        output = fn(hidden, *args)
        if index == self.front - 1:
            self.behind_front, self.behind_front_image = output, output[:, site.prefix :]
            self.change = self.behind_front_image - self.start[:, site.prefix :]
            self.run.decide(self.change, self.mode, self.rows)
        return output

    def _middle(self, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        chosen = self._where(True)
        if len(chosen) in (0, len(self.rows)):
            return fn(hidden, *args) if chosen else hidden
        output = hidden.clone()
        put(output, batch_indices(hidden, len(self.rows), chosen), on_some(fn, len(self.rows), chosen, hidden, *args))
        return output

    def _with_rest(self, hidden: Tensor) -> Tensor:
        """`hidden` plus the stored residual of the other blocks, for the samples that do not run them."""
        skipping = self._where(False)
        if not skipping:
            return hidden
        output, at = hidden.clone(), batch_indices(hidden, len(self.rows), skipping)
        output.index_add_(0, index_of(at, output.device), self.run.rest.take([self.rows[index] for index in skipping]))
        return output
