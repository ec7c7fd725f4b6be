"""Uniform skipping: every k-th evaluation is made, x0 is extrapolated in log-SNR in between."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from .base import Mode, PlainRun
from .nodes import NodeBuffer


@dataclass(frozen=True)
class Uniform:
    """Evaluate every `every`-th step; between, x0 is the polynomial of degree `order` in log-SNR through the last true
    evaluations. The first `order + 1` steps and the last are evaluated.
    """

    every: int = 2
    order: int = 1

    def __post_init__(self) -> None:
        if self.every < 1 or self.order < 0:
            raise ValueError(f"uniform skipping needs every >= 1 and order >= 0, got {self.every} and {self.order}")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_UniformRun":
        needed = self.order + 3
        if solver.n_evals < needed:
            raise ValueError(
                f"accelerator 'uniform' of order {self.order} needs at least {needed} steps, got {solver.n_evals}"
            )
        return _UniformRun(self, solver, shape[0])


class _UniformRun(PlainRun):
    def __init__(self, settings: Uniform, solver: Solver, samples: int) -> None:
        super().__init__(samples)
        self.settings = settings
        self.log_snr = [node.log_snr for node in solver.nodes]
        self.nodes = NodeBuffer(settings.order + 1, samples)

    def plan(self, step: int) -> Sequence[Mode]:
        warm, last = self.settings.order + 1, len(self.log_snr) - 1
        evaluated = step < warm or step == last or (step - warm + 1) % self.settings.every == 0
        return [Mode.FULL if evaluated else Mode.EXTRAPOLATED] * self.samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return self.nodes.at(rows, self.log_snr[step])

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if self.plan(step)[0].evaluates:
            for row in range(self.samples):
                self.nodes.push(row, self.log_snr[step], x0[row])
