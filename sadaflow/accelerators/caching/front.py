"""Runs that run a transformer's first blocks at every step, and from what these add decide on the other blocks."""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sadaflow.models import Seam, Site
from sadaflow.solvers import Solver

from ...device.indexing import index_of, put, taken
from ..base import Explanation, Mode
from ..history import RowStore
from .base import InsideRun, batch_indices, on_some, relative_change


class FrontRun(InsideRun):
    """Base class of runs that run the first blocks at every step, and from what they add decide on the others.

    Args:
        blocks: Number of blocks at the start and at the end that always run.
        solver: The solver of the run.
        shape: Shape of the states, (B, C, h, w).
        seams: Whether the denoiser lets a seam into its network.

    Attributes:
        front_blocks: Number of blocks at the start that always run.
        back_blocks: Number of blocks at the end that always run.
        blocks: Number of all blocks, once it is known.
        computed: Whether each sample runs all blocks at the present step.
        values: The criterion for each sample, nan where the schedule decides.
    """

    sites = frozenset({"trunk"})
    criterion: ClassVar[str] = "change of the first block"
    threshold: float

    def __init__(self, blocks: tuple[int, int], solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(solver, shape, seams)
        self.front_blocks, self.back_blocks = blocks
        self.needs = f"a transformer of more than {sum(blocks)} blocks (Flux)"
        self.blocks = 0
        self.values = [float("nan")] * self.samples
        self.computed = [True] * self.samples

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return [Mode.FULL if self.computed[row] else Mode.CACHED for row in rows]

    def explain(self, step: int) -> Explanation:
        return Explanation(self.criterion, self.threshold, self.values, [None] * self.samples)

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        return FrontSeam(self, mode, rows)

    @abstractmethod
    def decide(self, change: Tensor, image: Tensor, mode: Mode, rows: Sequence[int]) -> None:
        """Decides which samples run the other blocks.

        Args:
            change: What the first blocks added to the image tokens, (branches x len(rows), tokens, width).
            image: The image tokens after the first blocks, as `change`.
            mode: The mode in which the samples are evaluated.
            rows: Indices of the samples.
        """

    @abstractmethod
    def learn(self, rows: Sequence[int], change: Tensor, rest: Tensor) -> None:
        """Learns from samples that ran all blocks what the first ones added, and what the others did."""

    @abstractmethod
    def rest_of(self, rows: Sequence[int], change: Tensor) -> Tensor:
        """Estimates what the other blocks add, for samples that do not run them, from what the first ones did."""


class LastRest(FrontRun):
    """Base class of runs that add again what the other blocks added at the sample's last full evaluation."""

    def __init__(self, blocks: tuple[int, int], solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(blocks, solver, shape, seams)
        self.front, self.rest = RowStore(self.samples), RowStore(self.samples)
        self.in_a_row, self.in_all = [0] * self.samples, [0] * self.samples

    def decide(self, change: Tensor, image: Tensor, mode: Mode, rows: Sequence[int]) -> None:
        changes = [float("nan")] * len(rows)
        if mode is Mode.CACHED:
            changes = relative_change(change, self.front.take(rows), len(rows))
        for row, value in zip(rows, changes, strict=True):
            self.values[row] = value
            self.computed[row] = mode is not Mode.CACHED or not self.skips(row, value)
            self.in_a_row[row] = 0 if self.computed[row] else self.in_a_row[row] + 1
            self.in_all[row] += not self.computed[row]

    def skips(self, row: int, change: float) -> bool:
        """Whether a sample skips the other blocks, from the relative change since its last full evaluation."""
        return change < self.threshold

    def learn(self, rows: Sequence[int], change: Tensor, rest: Tensor) -> None:
        self.front.put(rows, change)
        self.rest.put(rows, rest)

    def rest_of(self, rows: Sequence[int], change: Tensor) -> Tensor:
        return self.rest.take(rows)


class FrontSeam:
    """The seam of one evaluation of the samples `rows`. It counts the blocks inside the trunk."""

    decides = True  # its decision depends on the values it sees

    def __init__(self, run: FrontRun, mode: Mode, rows: Sequence[int]) -> None:
        self.run, self.mode, self.rows = run, mode, list(rows)
        self.front, self.back = run.front_blocks, run.back_blocks
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
            run.learn(samples, taken(self.change, at), taken(end - start, at))
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
            self.run.decide(self.change, self.behind_front_image, self.mode, self.rows)
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
        rest = self.run.rest_of([self.rows[index] for index in skipping], taken(self.change, at))
        output.index_add_(0, index_of(at, output.device), rest)
        return output
