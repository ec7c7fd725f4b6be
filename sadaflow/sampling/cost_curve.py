"""Measures how many evaluations `Auto` makes under a tolerance, as a mean over samples."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from torch import Tensor

from sadaflow.solvers import Solver

from ..accelerators.auto.auto import Auto
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
        samples: Number of samples.
    """

    tolerances: tuple[float, ...]
    evaluations: tuple[float, ...]
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
    counts: dict[float, list[float]] = {}

    def mean(tolerance: float) -> float:
        notify(f"evaluations under the tolerance {tolerance:.2g}")
        accelerator = replace(settings, tolerance=tolerance, speedup=None, budget=None, max_nfe=None)
        counts[tolerance] = [
            nfe for denoise, noise in batches() for nfe in sample(solver, denoise, noise, accelerator).stats.nfe
        ]
        return float(np.mean(counts[tolerance]))

    lower = upper = _FIRST
    cost = highest = mean(_FIRST)
    while cost > fewest * 1.03 and len(counts) < _MOST:
        upper *= _FACTOR
        cost = mean(upper)
    while highest < 0.8 * solver.n_evals and len(counts) < _MOST:
        lower /= _FACTOR
        highest = mean(lower)
    tolerances = sorted(counts)
    means = np.minimum.accumulate([float(np.mean(counts[tolerance])) for tolerance in tolerances])
    return Curve(tuple(tolerances), tuple(means.tolist()), len(counts[_FIRST]))
