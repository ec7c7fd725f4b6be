"""DBCache, as cache-dit has it now: the first-block cache with warm-up, bounds and a mask of steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sadaflow.solvers import Solver

from ..base import Mode
from ..settings import check_numbers, check_whole
from ..steps.choice import Choice, check_choice_of_steps, mask_of_choice
from .front import LastRest


@dataclass(frozen=True)
class DBCache:
    """Runs the first blocks and the last ones at every step, and the others unless the first ones have hardly changed.

    The rules in their order: steps of the warm-up run in full; steps of the mask run in full, and with `static` all
    others skip; a sample that has skipped `max_cached` times in all, or `max_skips` times in a row, or whose accepted
    changes sum to `max_accumulated`, runs in full; else it skips if mean |change| / mean |residual at the last full
    evaluation| of the first blocks is below `threshold`. A threshold of 1 or more always skips.

    cache-dit's own default is 8 first blocks, of 57 of Flux.1; here it is 1, which fits any transformer. Each sample
    decides for itself, from both guidance branches together.

    Memory: two tensors (tokens, width) per sample and guidance branch, whatever the number of steps.

    Attributes:
        threshold: Relative change below which the other blocks are skipped.
        front: Number of blocks at the start that always run.
        back: Number of blocks at the end that always run.
        warmup: Number of steps of the warm-up; with a mask at most the ones that it begins with.
        warmup_interval: Every so many of them run in full; the first step always does.
        max_cached: Most skips in a run; None: no bound.
        max_skips: Most skips in a row; None: no bound.
        max_accumulated: Sum of accepted changes from which on no step is skipped; None: no bound.
        evaluated: Steps that run in full, as of `Schedule`, such as "scm-fast"; None for those of the rules alone.
        static: Whether the steps that are not in `evaluated` skip whatever the change.
    """

    threshold: float = 0.08
    front: int = 1
    back: int = 0
    warmup: int = 8
    warmup_interval: int = 1
    max_cached: int | None = None
    max_skips: int | None = None
    max_accumulated: float | None = None
    evaluated: Choice | None = None
    static: bool = False

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", least=0, finite=False)
        check_numbers(self, "max_accumulated", least=0, finite=False, optional=True)
        check_whole(self, front=1, back=0, warmup=0, warmup_interval=1)
        check_whole(self, optional=True, max_cached=0, max_skips=0)
        if self.evaluated is not None:
            check_choice_of_steps(self.evaluated)
        elif self.static:
            raise ValueError("DBCache.static needs the steps that run in full: evaluated")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)

    def full_steps(self, steps: int) -> frozenset[int]:
        """Those of `steps` steps that run in full by the warm-up and the mask."""
        if self.evaluated is None:
            return frozenset({0, *range(0, min(self.warmup, steps), self.warmup_interval)})
        mask = mask_of_choice(self.evaluated, steps)
        leading = next((step for step, evaluated in enumerate(mask) if not evaluated), steps)
        warm = range(0, min(self.warmup, leading), self.warmup_interval)
        return frozenset({0, *warm, *(step for step in range(steps) if mask[step])})


class _Run(LastRest):
    name = "dbcache"

    def __init__(self, settings: DBCache, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__((settings.front, settings.back), solver, shape, seams)
        self.settings, self.threshold = settings, settings.threshold
        self.full = settings.full_steps(self.steps)
        self.accepted = [0.0] * self.samples

    def plan(self, step: int) -> Sequence[Mode]:
        if step in self.full:
            return [Mode.FULL] * self.samples
        if self.settings.static:
            return [Mode.CACHED] * self.samples
        return [Mode.FULL if self._spent(row) else Mode.CACHED for row in range(self.samples)]

    def _spent(self, row: int) -> bool:
        """Whether a sample has reached a bound on what it skips."""
        settings = self.settings
        most = math.inf if settings.max_accumulated is None else settings.max_accumulated
        in_all = settings.max_cached is not None and self.in_all[row] >= settings.max_cached
        in_a_row = settings.max_skips is not None and self.in_a_row[row] >= settings.max_skips
        return in_all or in_a_row or self.accepted[row] >= most

    def skips(self, row: int, change: float) -> bool:
        skipped = self.settings.static or self.threshold >= 1 or change < self.threshold
        self.accepted[row] += change if skipped else 0.0
        return skipped
