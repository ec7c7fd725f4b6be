"""FoCa: a network's residual is forecast along the mean of two slopes (arXiv 2508.16211, as in cache-dit)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sadaflow.models import Site
from sadaflow.solvers import Solver

from ..history import Array, NodeBuffer
from ..settings import check_whole
from .series import SeriesRun, regular_steps

_TRUSTED: Final = 3  # steps after which a forecast is drawn towards the last full residual


@dataclass(frozen=True)
class FoCa:
    """Computes the whole network at some steps and forecasts its residual F at the others.

    With u the steps since the last full one, F_c and F_c' the residuals of the last two full steps, and F_k and
    F_(k-1) those used at the last two steps,

        F = F_c + u / 2 [(F_c - F_c') / gap + (F_k - F_(k-1))],

    which beyond three steps is blended with F_c, the weight of F being 3 / u. cache-dit does not divide by the gap
    between the full steps: `released`. The residual is that of the stack of blocks, or of a U-Net's first shell.

    Memory: four tensors of the residual's size per sample and guidance branch, whatever the number of steps.

    Attributes:
        interval: Distance between full steps after the first ones.
        first: Number of full steps at the start.
        released: Whether to leave out the gap as cache-dit does.
    """

    interval: int = 5
    first: int = 3
    released: bool = False

    def __post_init__(self) -> None:
        check_whole(self, interval=1, first=2)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)

    def full_steps(self, steps: int) -> frozenset[int]:
        """Indices of those of `steps` steps that compute the whole network."""
        return regular_steps(steps, self.interval, self.first)


class _Run(SeriesRun):
    name = "foca"

    def __init__(self, settings: FoCa, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(2, solver, shape, seams, settings.full_steps)
        self.released = settings.released
        self.used = NodeBuffer(2, self.samples)
        """What was used at the last two steps: full residuals, or forecasts."""

    def learn(self, step: int, rows: Sequence[int], residual: Tensor) -> None:
        super().learn(step, rows, residual)
        self.used.push(rows, step, residual)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        super().edited(step, rows)
        self.used.forget(rows)

    def forecast(self, step: int, rows: Sequence[int], site: Site) -> Tensor:
        anchor = self.past.combined(rows, self._anchored(step, rows))
        both = np.isfinite(self.used.times[np.asarray(rows)]).all(axis=1)
        part = np.where(both, self._share(step, rows), 0.0)[:, None] * np.array([0.5, -0.5])
        made = anchor + self.used.combined(rows, part)
        self.used.push(rows, step, made)
        return made

    def _share(self, step: int, rows: Sequence[int]) -> Array:
        """Steps that a forecast goes ahead: u, and of what is blended 3."""
        ahead = step - self.past.times[np.asarray(rows), 0]
        share: Array = np.minimum(ahead, _TRUSTED)
        return share

    def _anchored(self, step: int, rows: Sequence[int]) -> Array:
        """Weights of the last two full residuals in F_c + u / 2 (F_c - F_c') / gap."""
        times = self.past.times[np.asarray(rows)]
        gap = 1.0 if self.released else times[:, 0] - times[:, 1]
        slope = np.where(np.isfinite(times[:, 1]), self._share(step, rows) / 2 / gap, 0.0)
        return np.stack((1 + slope, -slope), axis=1)
