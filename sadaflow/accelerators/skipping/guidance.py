"""Guidance caching: the negative branch of classifier-free guidance is evaluated now and then only.

Many methods do this under names of their own: the CFG cache of FasterCache (arXiv 2410.19355), adaptive guidance
(arXiv 2312.12487), and others, which differ in where they leave the branch out and in what they put in its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ..base import Mode, require_falling_times, require_steps
from ..history import NodeBuffer
from ..settings import check_fractions, check_whole
from .base import OutputRun, Reuse

_GUIDED_LAST = 2  # steps, as in uniform skipping


@dataclass(frozen=True)
class Guidance(Reuse):
    """Of the evaluations made, every `every`-th has both branches; at the others the conditional branch is evaluated
    alone, which counts half in `Stats.nfe`.

    What guidance adds to the conditional branch's output is then the polynomial of degree `order` in log-SNR through
    the last evaluations of both branches: 0 holds the last, 1 goes on along a line. The steps before `start` and from
    `end` on (fractions of the steps) have both branches, as have the first `order` + 1 and the last two.

    The output is meant in the network's own terms, as `reuse` names them (see `reuse.reused_kind`). `sample` raises
    ValueError where the denoiser has no negative branch: guidance of 1 or less, or embedded in the network.
    """

    every: int = 2
    order: int = 1
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        check_whole(self, every=1, order=0)
        check_fractions(self, "start", "end")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_falling_times(solver, "guidance")
        require_steps(solver, f"'guidance' of order {self.order}", self.order + 2 + _GUIDED_LAST)
        return _Run(self, solver, shape[0])


class _Run(OutputRun):
    def __init__(self, settings: Guidance, solver: Solver, samples: int) -> None:
        super().__init__(solver, samples, settings.reuse)
        self.every = settings.every
        steps = solver.n_evals
        self.free = range(round(settings.start * steps), min(steps - _GUIDED_LAST, round(settings.end * steps)))
        self.differences = NodeBuffer(settings.order + 1, samples)
        self.alone = [0] * samples
        """How many evaluations in a row each sample has had of the conditional branch alone."""

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.CONDITIONAL if self._spared(row, step) else Mode.FULL for row in range(self.samples)]

    def _spared(self, row: int, step: int) -> bool:
        known = self.differences.count(row) == self.differences.size
        return known and step in self.free and self.alone[row] < self.every - 1

    def learn_guidance(self, step: int, rows: Sequence[int], difference: Tensor) -> None:
        # An output and its x0 depend on each other along a line, so that of a difference is taken at x = 0.
        output = self.output(torch.zeros_like(difference), difference, step)
        for row, one in zip(rows, output, strict=True):
            self.differences.push(row, self.nodes[step].log_snr, one)
            self.alone[row] = 0

    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        output = self.differences.at(rows, self.nodes[step].log_snr)
        for row in rows:
            self.alone[row] += 1
        return self.answer(output, torch.zeros_like(output), step)
