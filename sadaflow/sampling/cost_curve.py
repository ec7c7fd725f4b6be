"""Measures how many evaluations `Auto` makes under a tolerance, as a mean over samples."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from torch import Tensor

from sadaflow.solvers import Solver

from ..accelerators.auto.auto import Auto
from ..accelerators.base import Mode
from ..accelerators.history import Array
from .denoiser import RowDenoise
from .loop import sample

Batches = Callable[[], Iterable[tuple[RowDenoise, Tensor]]]
"""Yields batches: a denoiser, and the start noise (B, ...)."""

_FIRST: Final = 0.003
_FACTOR: Final = 1.5
_MOST: Final = 40  # runs; far more than any network needs


@dataclass(frozen=True)
class Curve:
    """A cost curve.

    Attributes:
        tolerances: Rising tolerances.
        evaluations: Mean number of evaluations under each.
        course: Share of the evaluations that are made up to each step and with it, in the mean under the tolerance
            whose cost is nearest to half of the steps, (N,).
        samples: Number of samples.
    """

    tolerances: tuple[float, ...]
    evaluations: tuple[float, ...]
    course: tuple[float, ...]
    samples: int


def cost_curve(
    solver: Solver,
    batches: Batches,
    settings: Auto,
    fewest: int,
    notify: Callable[[str], object] = lambda _: None,
) -> Curve:
    """Samples under tolerances that differ by a factor of 1.5, from nearly all evaluations down to nearly the fewest.

    Args:
        solver: The solver, with its grid.
        batches: The samples; called once for each tolerance.
        settings: Settings of `Auto`; its tolerance and its cost are replaced.
        fewest: Evaluations of a run without any bound on the error.
        notify: Called with a line about what is done next.

    Returns:
        The curve. Where a measured mean is not lower than that of the tolerance below, the two share their mean.
    """
    made: dict[float, Array] = {}  # evaluations up to each step, (samples, N)

    def mean(tolerance: float) -> float:
        notify(f"evaluations under the tolerance {tolerance:.2g}")
        accelerator = replace(settings, tolerance=tolerance, speedup=None, budget=None, max_nfe=None)
        modes = [one for denoise, noise in batches() for one in sample(solver, denoise, noise, accelerator).stats.modes]
        made[tolerance] = (np.array(modes) == Mode.FULL.value).cumsum(axis=1).astype(np.float64)
        return float(made[tolerance][:, -1].mean())

    lower = upper = _FIRST
    cost = highest = mean(_FIRST)
    while cost > fewest * 1.03 and len(made) < _MOST:
        upper *= _FACTOR
        cost = mean(upper)
    while highest < 0.8 * solver.n_evals and len(made) < _MOST:
        lower /= _FACTOR
        highest = mean(lower)
    tolerances = sorted(made)
    means = [float(made[tolerance][:, -1].mean()) for tolerance in tolerances]
    middle = made[min(tolerances, key=lambda tolerance: abs(made[tolerance][:, -1].mean() - solver.n_evals / 2))]
    return Curve(
        tolerances=tuple(tolerances),
        evaluations=tuple(np.minimum.accumulate(means).tolist()),
        course=tuple((middle.mean(axis=0) / middle[:, -1].mean()).tolist()),
        samples=len(middle),
    )
