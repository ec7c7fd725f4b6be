"""Euler, which is DDIM."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from .base import LinearMultistep, Update
from .grid import Grid


def log_snr_steps(grid: Grid) -> list[float]:
    """h_i = log_snr[i+1] - log_snr[i] of every step; inf where a step starts at alpha = 0 or ends at sigma = 0."""
    return [float(h) for h in grid.log_snr.diff()]


def first_order_update(grid: Grid, step: int) -> Update:
    """x' = sigma'/sigma x + alpha' (1 - e^-h) x0, exact while x0 stays constant over the step."""
    h = log_snr_steps(grid)[step]
    keep = float(grid.sigma[step + 1] / grid.sigma[step])
    return Update(keep, (float(grid.alpha[step + 1]) * -math.expm1(-h),))


@dataclass(frozen=True, eq=False)
class Euler(LinearMultistep):
    """x' = alpha' x0 + sigma' eps: DDIM (Song et al. 2020, arXiv 2010.02502, eq. 12 with eta = 0).

    It is Euler's method in sigma/alpha, the first-order DPM-Solver, and on rectified flow the plain Euler step.
    """

    order: ClassVar[int] = 1

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return tuple(first_order_update(self.grid, step) for step in range(self.grid.n_steps))
