"""Runs that forecast the network's residual at fixed steps from those of the last full evaluations."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sadaflow.models import Seam, Site
from sadaflow.solvers import Solver

from ..base import Mode
from ..history import NodeBuffer
from ..predictors import Weights
from .base import Outermost, ScheduledRun


def regular_steps(steps: int, interval: int, first: int) -> frozenset[int]:
    """The first `first` of `steps` steps, and every `interval`-th one after the last of them."""
    return frozenset([*range(min(first, steps)), *range(first - 1, steps, interval)])


class SeriesRun(ScheduledRun):
    """Base class of runs that forecast the residual output - input of the stack of blocks, or of the outermost shell.

    Args:
        nodes: Number of full evaluations that a forecast uses.
        solver: The solver of the run.
        shape: Shape of the states, (B, C, h, w).
        seams: Whether the denoiser lets a seam into its network.
        full: Indices of the steps that compute all of the network, from the number of steps.
    """

    needs = "a stack of blocks or shells that a seam reaches"

    def __init__(
        self, nodes: int, solver: Solver, shape: torch.Size, seams: bool, full: Callable[[int], frozenset[int]]
    ) -> None:
        super().__init__(solver, shape, seams, full)
        self.past = NodeBuffer(nodes, self.samples)
        """Residuals (branches, ...) of the samples, by step."""

    @abstractmethod
    def forecast(self, step: int, rows: Sequence[int], site: Site) -> Tensor:
        """The residuals of the samples `rows` at a step that is not full, (len(rows), branches, ...)."""

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def handle(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            self.met = True
            if mode is Mode.CACHED:
                return hidden + self.forecast(step, rows, site).transpose(0, 1).flatten(0, 1)
            output = fn(hidden, *args)
            self.learn(step, rows, (output - hidden).unflatten(0, (-1, len(rows))).transpose(0, 1))
            return output

        return Outermost(handle)

    def learn(self, step: int, rows: Sequence[int], residual: Tensor) -> None:
        """Learns the residuals (len(rows), branches, ...) of a full step."""
        self.past.push(rows, step, residual)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.past.forget(rows)

    def weighted(self, weights: Weights, step: int, rows: Sequence[int]) -> Tensor:
        """The residuals that a predictor's weights lead to, (len(rows), branches, ...)."""
        return self.past.combined(rows, weights(self.past.times[np.asarray(rows)], step))
