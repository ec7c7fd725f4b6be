"""Fits the plans of `Auto` for the costs at which they keep more than error control does."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ..accelerators.auto.auto import Auto
from ..accelerators.auto.calibration import Calibration
from ..accelerators.auto.linear_states import linear_states
from ..accelerators.auto.plans import Fork
from .denoiser import RowDenoise
from .loop import sample
from .plan_fitting import Followed, PlainRun, fitted_fork, log_errors, plain_products, some_elements
from .plan_steps import PlanCosts

_MOST_SPEEDUP: Final = 8.0
_PARTS: Final = (1.12, 1.32, 1.6, 2.0, 2.68, 3.2, 4.0, 4.9, 5.6)
"""Evaluations of the plans in the middle, over those at 8x."""
_FEW: Final = 10  # up to so many evaluations the plans of a fork differ by one, above by two
_LINEAR: Final = 1e-3  # largest relative error of the plain end as a sum of x0


def fit_forks(
    solver: Solver, batches: Iterable[tuple[RowDenoise, Tensor]], found: Calibration, settings: Auto
) -> tuple[Fork, ...]:
    """Fits plans from an eighth of the evaluations on, up to the first cost at which error control keeps more.

    Args:
        solver: The solver, with its grid.
        batches: The samples, a denoiser and the start noise (B, ...) at a time.
        found: The calibration, with gains and cost curve and without plans.
        settings: The settings of `Auto` that it was measured with.

    Returns:
        The plans; none if the solver's states are not weighted sums of x0.
    """
    runs = [PlainRun.of(solver, denoise, noise) for denoise, noise in batches]
    if not _is_linear(solver, runs):
        return ()
    costs = PlanCosts.of(solver, plain_products(runs), found.gains)
    begun, kept = Followed.begin(solver, runs), list[Fork]()
    for evaluations in evaluations_of_forks(solver.n_evals):
        fork, loss = fitted_fork(costs, begun, evaluations, 1 if evaluations <= _FEW else 2)
        controlled = replace(settings, budget=float(evaluations), calibration=found)
        if found.covers(evaluations, found.settings) and loss >= _loss(solver, runs, controlled):
            break
        kept.append(fork)
    return tuple(kept)


def evaluations_of_forks(steps: int) -> list[int]:
    """Evaluations of the plans in the middle, for a solver that makes `steps`."""
    counts = {max(3, round(part * steps / _MOST_SPEEDUP)) for part in _PARTS}
    return sorted(count for count in counts if count + 2 < steps)


def _is_linear(solver: Solver, runs: Iterable[PlainRun]) -> bool:
    """Whether the ends of plain runs are the weighted sums of `linear_states`."""
    first, *rest = linear_states(solver)[-1][0].tolist()
    for run in runs:
        end = some_elements(run.end)
        made = first * some_elements(run.start) + torch.tensordot(torch.tensor(rest).to(run.x0), run.x0, dims=1)
        if not (made - end).square().mean() <= (_LINEAR * end).square().mean():
            return False
    return True


def _loss(solver: Solver, runs: Sequence[PlainRun], accelerator: Auto) -> float:
    """Mean over samples of log10 of the mean squared error of the final states with an accelerator."""
    ends = [sample(solver, run.denoise, run.noise, accelerator).x for run in runs]
    return float(log_errors(ends, runs).mean())
