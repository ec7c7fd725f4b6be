"""SpeCa: the network's residual is drafted by a Taylor series, and the last block checks it (arXiv 2509.11628)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sadaflow.models import Seam, Site
from sadaflow.solvers import Solver

from ...device.readback import Readback
from ..base import Explanation, Mode
from ..history import NodeBuffer
from ..predictors import taylor
from ..settings import check_fractions, check_numbers, check_whole
from .base import InsideRun, mean_sizes


@dataclass(frozen=True)
class SpeCa:
    """Drafts what a transformer's blocks add, and computes them anew once the last block shows that drafts are wrong.

    After a step that computes all blocks the next ones are drafted: what the blocks before the last add, and what the
    last one adds, are Taylor series of backward differences over full steps. The last block is also computed, on its
    drafted input. The error of the draft is the mean of |draft - computed| / |computed| of what it adds to the image
    tokens. From the second draft in a row on, the next step is full if the error exceeds `threshold` x `decay`^(i / N),
    with its index i of N, and `floor`; or after `max_drafts` drafts. A draft that fails is not made again. The defaults
    are those of the authors' code for Flux.1; order and first steps are TaylorSeer's.

    The authors draft every module, and compute the last block only where its error counts; here all blocks before the
    last are one sum, and every draft costs the same. Their code has a draft after every full step, so that of the first
    steps only every second one is full: `released`.

    Memory: 2 (`order` + 1) tensors (tokens, width) per sample and guidance branch, whatever the number of steps.

    Attributes:
        threshold: Largest error at the first step.
        decay: What it falls to at the end of the run, as a fraction.
        floor: Least of the largest errors.
        unchecked: Number of drafts after a full step whose errors do not count.
        max_drafts: Most drafts in a row.
        order: Degree of the Taylor series.
        first: Number of steps at the start that are full.
        released: Whether a draft follows every full step, also at the start.
    """

    threshold: float = 7.0
    decay: float = 0.3
    floor: float = 0.1
    unchecked: int = 1
    max_drafts: int = 8
    order: int = 1
    first: int = 3
    released: bool = False

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", "floor", least=0, finite=False)
        check_fractions(self, "decay")
        check_whole(self, unchecked=0, max_drafts=1, order=0, first=1)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)


class _Run(InsideRun):
    name = "speca"
    needs = "a transformer of more than one block (Flux)"
    sites = frozenset({"trunk"})

    def __init__(self, settings: SpeCa, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(solver, shape, seams)
        self.settings = settings
        self.rule = partial(taylor, order=settings.order)
        self.parts = NodeBuffer(settings.order + 1, self.samples), NodeBuffer(settings.order + 1, self.samples)
        """What the blocks before the last, and the last, add at a sample's full steps: (branches, tokens, width)."""
        self.blocks = 0  # once they are known
        self.drafts = [0] * self.samples
        """Number of drafts in a row."""
        self.errors = [float("nan")] * self.samples

    def bound(self, step: int) -> float:
        """Largest error before a step with which it is drafted."""
        return max(self.settings.threshold * self.settings.decay ** (step / self.steps), self.settings.floor)

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.FULL if self._full(step, row) else Mode.CACHED for row in range(self.samples)]

    def _full(self, step: int, row: int) -> bool:
        if self.parts[0].counts[row] == 0:
            return True
        if self.drafts[row] == 0:  # after an edit, too, as many full steps as the series needs
            few = self.parts[0].counts[row] <= self.settings.order
            return (few or step < self.settings.first) and not self.settings.released
        wrong = self.errors[row] > self.bound(step) or self.drafts[row] >= self.settings.max_drafts
        return wrong or step < self.settings.first

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        return _Draft(self, step, rows) if mode is Mode.CACHED else _Whole(self, step, rows)

    def learn(self, step: int, rows: Sequence[int], before: Tensor, last: Tensor) -> None:
        """Learns what the blocks before the last and the last one add, (branches x len(rows), tokens, width)."""
        for part, added in zip(self.parts, (before, last), strict=True):
            part.push(rows, step, added.unflatten(0, (-1, len(rows))).transpose(0, 1))
        for row in rows:
            self.drafts[row], self.errors[row] = 0, float("nan")

    def draft(self, part: int, step: int, rows: Sequence[int]) -> Tensor:
        """The series of the blocks before the last (0), or of the last (1), (branches x len(rows), tokens, width)."""
        past = self.parts[part]
        made = past.combined(rows, self.rule(past.times[np.asarray(rows)], step))
        return made.transpose(0, 1).flatten(0, 1)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        for part in self.parts:
            part.forget(rows)

    def explain(self, step: int) -> Explanation:
        nothing = [None] * self.samples
        return Explanation("error of the last block's draft", self.bound(step + 1), self.errors, nothing)


class _Blocks(ABC):
    """A seam that counts the blocks inside the trunk."""

    decides = True  # errors are over all branches

    def __init__(self, run: _Run, step: int, rows: Sequence[int]) -> None:
        self.run, self.step, self.rows = run, step, list(rows)
        self.index = -1  # outside the trunk

    def __call__(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        if site.kind == "trunk":
            self.index = 0
            output = fn(hidden, *args)
            self.leave()
            self.index = -1
            return output
        if site.kind != "block" or self.index < 0:
            return fn(hidden, *args)
        self.index += 1
        return self.block(site, fn, hidden, *args)

    @abstractmethod
    def leave(self) -> None:
        """Called behind the last block."""

    @abstractmethod
    def block(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        """What a block inside the trunk returns; `index` is its number, from 1."""


class _Whole(_Blocks):
    """The seam of a full step."""

    start = before = after = torch.empty(0)

    def block(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        if self.index == 1:
            self.start = hidden
        self.before, self.after = hidden, fn(hidden, *args)
        return self.after

    def leave(self) -> None:
        self.run.blocks, self.run.met = self.index, self.index > 1
        if self.run.met:  # else refused after this evaluation
            self.run.learn(self.step, self.rows, self.before - self.start, self.after - self.before)


class _Draft(_Blocks):
    """The seam of a drafted step."""

    def block(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        run = self.run
        if self.index == 1:
            return hidden + run.draft(0, self.step, self.rows)
        if self.index < run.blocks:
            return hidden
        drafted, count = run.draft(1, self.step, self.rows), len(self.rows)
        computed = (fn(hidden, *args) - hidden)[:, site.prefix :]
        wrong = (drafted[:, site.prefix :] - computed).abs()
        ratios = wrong / computed.abs().clamp(min=torch.finfo(computed.dtype).tiny)
        for row, error in zip(self.rows, Readback(mean_sizes(ratios, count)).read(), strict=True):
            run.errors[row] = error if run.drafts[row] >= run.settings.unchecked else float("nan")
        return hidden + drafted

    def leave(self) -> None:
        for row in self.rows:
            self.run.drafts[row] += 1
