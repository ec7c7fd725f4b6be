"""Uniform skipping: every k-th step is evaluated, and x0 is extrapolated in log-SNR in between."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver, State

from ...device.indexing import taken
from ..base import Mode, Run
from ..fitting import require_steps
from ..history import NodeBuffer, lagrange
from ..replay import Replay
from ..settings import check_whole
from .evaluated import Evaluated


@dataclass(frozen=True)
class Uniform:
    """Evaluates every `every`-th step, and extrapolates x0 in between.

    A skipped x0 is that of the polynomial in log-SNR through the last evaluations. The first `order` + 1 steps and the
    last two are evaluated. A first step at pure noise (flow time 1), which has no log-SNR, is evaluated in addition.

    Attributes:
        every: Distance between evaluations.
        order: Degree of the polynomial.
        correct: Whether skipped steps are taken again after each evaluation, with x0 interpolated through it as well.
    """

    every: int = 2
    order: int = 1
    correct: bool = False

    def __post_init__(self) -> None:
        check_whole(self, every=1, order=0)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_steps(solver, f"'uniform' of order {self.order}", self.order + 4)
        return _Run(self, solver, shape[0])


class _Run(Run):
    def __init__(self, settings: Uniform, solver: Solver, samples: int) -> None:
        super().__init__(samples)
        self.settings = settings
        self.log_snr = [node.log_snr for node in solver.nodes]
        self.nodes = NodeBuffer(settings.order + 2, samples)
        self.replay = Replay(solver, samples) if settings.correct else None
        self.warm = settings.order + 1 + sum(not math.isfinite(value) for value in self.log_snr)
        self.evaluated = Evaluated(samples)

    def plan(self, step: int) -> Sequence[Mode]:
        due = (step - self.warm + 1) % self.settings.every == 0
        every = due or step < self.warm or step >= len(self.log_snr) - 2
        return self.evaluated.plan(every, Mode.EXTRAPOLATED)

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return self.nodes.at(rows, self.log_snr[step], self.settings.order + 1)

    def revise(self, state: State, x0: Tensor) -> State:
        rows = self.evaluated.rows
        if not rows:
            return state
        self.nodes.push(rows, self.log_snr[state.step], taken(x0, rows))
        return state if self.replay is None else self.replay.corrected(state, rows, self._interpolated)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.nodes.forget(rows)
        self.evaluated.edited(rows)
        if self.replay is not None:
            self.replay.forget(rows)

    def _interpolated(self, rows: Sequence[int], steps: Sequence[int]) -> Iterator[Tensor]:
        at = np.array([self.log_snr[step] for step in steps])[:, None]
        return self.nodes.series(rows, lagrange(self.nodes.times[np.asarray(rows)], at))
