"""SADA with the decisions of its authors' published code, for comparison with published numbers.

The published code differs from the paper (`sada.py`) in these points: the extrapolation has weights of first order and
moves N/1000 of the true step (N steps); the criterion includes equality; after a skip the velocity is that of the stale
noise; multistep nodes lie at fixed steps, include predicted values, and their polynomial runs in the step index. This
implementation differs from the published code in these: every sample decides for itself, any grid and device work, and
there is no token pruning, which in the published code is almost never used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ...device.indexing import renewed, taken
from ..base import Explanation, Mode, Run
from ..history import NodeBuffer
from ..settings import check_fractions, check_whole
from .criterion import extrapolate, instability, noise_of, sample_scores, stepwise_x0
from .estimators import released
from .limits import Limits
from .sada import SADA


@dataclass(frozen=True)
class ReleasedSADA:
    """Settings of the published code, in fractions of the steps so that they apply to any number of steps.

    Attributes:
        start: Fraction of the steps from which the criterion decides.
        multistep_start: Fraction from which x0 is interpolated between evaluations at fixed steps.
        end: Fraction from which every step is evaluated.
        max_skips: Most consecutive skips at 50 steps, in proportion at others.
        interval: Distance between multistep nodes at 50 steps, in proportion at others.
        terms: Number of nodes of the multistep polynomial.
    """

    start: float = 0.2
    multistep_start: float = 0.48
    end: float = 0.94
    max_skips: int = 4
    interval: int = 4
    terms: int = 4

    def __post_init__(self) -> None:
        check_fractions(self, "start", "multistep_start", "end")
        check_whole(self, max_skips=1, interval=2, terms=2)
        self._limits(50)

    def _limits(self, steps: int) -> Limits:
        same = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return SADA(**same).limits(steps)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self.terms, self._limits(solver.n_evals), solver, shape[0])


class _Run(Run):
    def __init__(self, terms: int, limits: Limits, solver: Solver, samples: int) -> None:
        super().__init__(samples)
        self.limits, self.solver = limits, solver
        self.nodes = NodeBuffer(terms, samples)
        self.modes = [Mode.FULL] * samples
        self.skips = [0] * samples
        self.full_until = [0] * samples
        """First step that may be skipped after an edit: velocities and two nodes of the edited states are needed."""
        self.values = [math.nan] * samples
        self.velocities: tuple[Tensor, ...] = ()
        self.eps = self.predicted = torch.empty(0)

    def plan(self, step: int) -> Sequence[Mode]:
        return self.modes

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        if self.modes[rows[0]] is Mode.MULTISTEP:  # the others are too: it needs steps at which the criterion is silent
            return self.nodes.at(rows, step)
        node = self.solver.nodes[step]
        return stepwise_x0(taken(self.predicted, rows), taken(self.eps, rows), node.alpha, node.sigma)

    def explain(self, step: int) -> Explanation:
        return Explanation("stability criterion", 0.0, self.values, [None] * self.samples)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        node, limits = self.solver.nodes[step], self.limits
        evaluated = [row for row, mode in enumerate(self.modes) if mode.evaluates]
        self.skips = [0 if mode.evaluates else skips + 1 for mode, skips in zip(self.modes, self.skips, strict=True)]
        fresh = noise_of(x, x0, node.alpha, node.sigma)
        self.eps = renewed(self.eps if self.eps.numel() else None, fresh, evaluated)
        stale = self.solver.velocity(x, stepwise_x0(x, self.eps, node.alpha, node.sigma), step)
        self.velocities = (stale, *self.velocities)[:3]
        if step % limits.interval == 1:
            self.nodes.push(range(self.samples), step, x0)
        self.values = [math.nan] * self.samples
        if limits.first <= step < limits.multistep:
            scale = self.solver.n_evals / 1000
            after = self.solver.nodes[step + 1].t
            self.predicted = extrapolate(x, self.velocities, (after - node.t) * scale, released((), after))
            scores = instability(x_next, self.predicted, self.velocities)
            self.values = sample_scores(scores).read()
        votes = [value <= 0 for value in self.values]
        self.modes = [
            Mode.FULL if step + 1 < full_until else self._decide(step, skips, vote)
            for skips, vote, full_until in zip(self.skips, votes, self.full_until, strict=True)
        ]

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.nodes.forget(rows)
        for row in rows:
            self.modes[row], self.full_until[row] = Mode.FULL, step + 2 + 2 * self.limits.interval

    def _decide(self, step: int, skips: int, vote: bool) -> Mode:
        """The mode of the step after `step`."""
        limits = self.limits
        if skips >= limits.max_skips:
            return Mode.FULL
        if vote:
            return Mode.STEPWISE
        if limits.multistep <= step < limits.end and step % limits.interval != 0:
            return Mode.MULTISTEP
        return Mode.FULL
