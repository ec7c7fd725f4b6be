"""Guidance caching: the negative branch of classifier-free guidance is evaluated at some steps only.

Several methods do this, such as the CFG cache of FasterCache (arXiv 2410.19355) and adaptive guidance (arXiv
2312.12487). They differ in the steps at which they omit the branch and in what replaces it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ..base import Mode
from ..fitting import require_falling_times, require_steps
from ..history import NodeBuffer
from ..settings import check_fractions, check_whole
from .base import OutputRun, Reuse

_GUIDED_LAST = 2  # steps, as in uniform skipping


@dataclass(frozen=True)
class Guidance(Reuse):
    """Evaluates both branches of classifier-free guidance at some steps, the conditional branch alone at the others.

    A step with the conditional branch alone counts as half an evaluation in `Stats.nfe`. The difference between the
    guided output and that of the conditional branch is then the polynomial in log-SNR through the last evaluations of
    both branches. The first `order` + 1 evaluations and the last two steps have both branches. `sample` raises
    ValueError if the denoiser has no negative branch: guidance is 1 or less, or embedded in the network.

    Attributes:
        reuse: See `Reuse`; the prediction type of the difference.
        every: Every `every`-th evaluation has both branches.
        order: Degree of the polynomial: 0 holds the last difference, 1 extrapolates it along a line.
        start: Fraction of the steps before which all have both branches.
        end: Fraction of the steps from which all have both branches.
    """

    every: int = 2
    order: int = 1
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        check_whole(self, every=1, order=0)
        check_fractions(self, "start", "end")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "GuidanceRun":
        require_falling_times(solver, "guidance")
        require_steps(solver, f"'guidance' of order {self.order}", self.order + 2 + _GUIDED_LAST)
        return GuidanceRun(self, solver, shape[0])


class GuidanceRun(OutputRun):
    """Evaluates the conditional branch alone at some steps, and estimates the effect of guidance there."""

    def __init__(self, settings: Guidance, solver: Solver, samples: int) -> None:
        super().__init__(solver, samples, settings.reuse)
        self.every = settings.every
        steps = solver.n_evals
        self.free = range(round(settings.start * steps), min(steps - _GUIDED_LAST, round(settings.end * steps)))
        self.differences = NodeBuffer(settings.order + 1, samples)
        self.alone = np.zeros(samples, dtype=np.int64)
        """Number of evaluations in a row of the conditional branch alone, per sample."""

    def plan(self, step: int) -> Sequence[Mode]:
        if step not in self.free:
            return [Mode.FULL] * self.samples
        omits = (self.differences.counts == self.differences.size) & (self.alone < self.every - 1)
        return [Mode.CONDITIONAL if omitted else Mode.FULL for omitted in omits.tolist()]

    def learn_guidance(self, step: int, rows: Sequence[int], difference: Tensor) -> None:
        # The map between x0 and output is affine in x, so a difference is converted at x = 0.
        output = self.output(torch.zeros_like(difference), difference, step)
        self.differences.push(rows, self.nodes[step].log_snr, output)
        self.alone[list(rows)] = 0

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.differences.forget(rows)
        self.alone[list(rows)] = 0

    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        output = self.differences.at(rows, self.nodes[step].log_snr)
        self.alone[list(rows)] += 1
        return self.x0_of(output, torch.zeros_like(output), step)
