"""EasyCache: skip while the predicted change of the network's output stays small (Zhou et al., arXiv 2507.02860)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ...device.indexing import renewed, taken
from ...device.readback import Readback
from ..fitting import require_falling_times, require_steps
from ..settings import check_fractions, check_numbers, check_whole
from .base import Reuse, ReuseRun, mean_size


@dataclass(frozen=True)
class EasyCache(Reuse):
    """Skips while the predicted change of the output is small, assuming that it changes in proportion to the input.

    With v the network's output and x its input, m the mean |.| of a sample, and c' < c the last two evaluated steps, k
    = m(v_c - v_c') / m(x_c - x_c'). Every step i adds k m(x_i - x_(i-1)) / m(v_c) to an error. While that is below
    `threshold`, the step is skipped and its output is x_i + v_c - x_c; an evaluation resets the error to 0. The first
    two steps and the last are evaluated. The default `start` and `threshold` are those of the authors' code for Wan 2.1
    at 50 steps (threshold 0.025 for HunyuanVideo). ComfyUI's node corresponds to threshold=0.2, start=0.15, end=0.95,
    subsample=8, from_evaluated=True.

    Attributes:
        reuse: See `Reuse`; the prediction type of v.
        threshold: Error from which on a step is evaluated.
        start: Fraction of the steps before which all are evaluated.
        end: Fraction of the steps from which all are evaluated.
        subsample: m is computed on every `subsample`-th position along each spatial axis.
        from_evaluated: Whether the error uses m(x_i - x_c) in place of m(x_i - x_(i-1)).
    """

    threshold: float = 0.05
    start: float = 0.1
    end: float = 1.0
    subsample: int = 1
    from_evaluated: bool = False

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", least=0)
        check_fractions(self, "start", "end")
        check_whole(self, subsample=1)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_falling_times(solver, "easycache")
        require_steps(solver, "'easycache'", 4)
        return _Run(self, solver, shape[0])


class _Run(ReuseRun):
    criterion = "accumulated error"

    def __init__(self, settings: EasyCache, solver: Solver, samples: int) -> None:
        super().__init__(solver, samples, settings.reuse, settings.threshold)
        self.settings = settings
        steps = solver.n_evals
        self.free = range(max(2, round(settings.start * steps)), min(steps - 1, round(settings.end * steps)))
        self.inputs: Tensor | None = None
        self.outputs: Tensor | None = None
        self.rates: Tensor | None = None
        self.errors = [0.0] * samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        assert self.inputs is not None and self.outputs is not None
        states = taken(x, rows)
        offset = taken(self.outputs, rows) - taken(self.inputs, rows)
        return self.x0_of(self.network_input(states, step) + offset, states, step)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self._learn(step, x, x0)
        assert self.inputs is not None and self.outputs is not None
        self.values = [math.nan] * self.samples
        if step + 1 in self.free:
            before = self.inputs if self.settings.from_evaluated else self.network_input(x, step)
            moved = self.network_input(x_next, step + 1) - before
            assert self.rates is not None  # at least two evaluations precede the free steps
            changes = Readback(self.rates * (self._size(moved) / self._size(self.outputs))).read()
            self.values = [error + change for error, change in zip(self.errors, changes, strict=True)]
        skip = [value < self.threshold for value in self.values]
        self.errors = [value if skipped else 0.0 for value, skipped in zip(self.values, skip, strict=True)]
        self.decide(skip)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        super().edited(step, rows)
        for row in rows:
            self.errors[row] = 0.0

    def _learn(self, step: int, x: Tensor, x0: Tensor) -> None:
        """Updates the offset, and the rate at which outputs follow inputs, from the evaluations at `step`."""
        evaluated = self.evaluated
        if not evaluated:
            return
        given, output = self.network_input(x, step), self.output(x, x0, step)
        if self.inputs is not None and self.outputs is not None:
            rates = self._size(output - self.outputs) / self._size(given - self.inputs)
            self.rates = renewed(self.rates, rates, evaluated)
        self.inputs, self.outputs = renewed(self.inputs, given, evaluated), renewed(self.outputs, output, evaluated)

    def _size(self, x: Tensor) -> Tensor:
        every = slice(None, None, self.settings.subsample)
        return mean_size(x[(slice(None), slice(None), *[every] * (x.dim() - 2))])
