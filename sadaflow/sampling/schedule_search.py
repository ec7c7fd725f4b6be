"""Searches the set of evaluated steps that keeps most of the plain samples, for a number of evaluations.

First by dynamic programming over the costs of gaps on plain trajectories (as LeMiCa, arXiv 2511.00090, and DPCache,
arXiv 2602.22654, whose costs differ), then by moving single steps and sampling (as BudCache, arXiv 2606.13496).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Prediction, Solver

from ..accelerators.auto.calibration import Calibration, describe_solver
from ..accelerators.history import Array
from ..accelerators.predictors import PREDICTORS, positions
from ..accelerators.skipping.schedule import Schedule
from ..accelerators.steps.searched import Searched
from .auto_calibration import Batches
from .best_path import best_path, moved, triple_costs
from .denoiser import Denoise
from .gap_costs import GapCosts, Whole, inner_products, outputs_of
from .loop import sample
from .results import Step

_POWERS: Final = (1.0, 2.0, 4.0)  # of a gap's cost in the sum; the higher, the more the worst gap counts


@dataclass(frozen=True)
class SearchEffort:
    """How much a search measures.

    Attributes:
        samples: Samples that are drawn for every set of steps.
        tries: Sets of steps that are sampled, at most.
        batch: Most samples per evaluation of the network.
        max_skips: Most steps skipped in a row.
    """

    samples: int = 8
    tries: int = 60
    batch: int = 8
    max_skips: int = 12

    def __post_init__(self) -> None:
        for name in ("samples", "tries", "batch", "max_skips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a search must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Plain:
    """Plain runs of one solver: their ends, and the inner products of what was predicted on the way.

    Attributes:
        solver: The solver, with its grid.
        parts: Denoiser, start noise (B, ...) and final states (B, ...) of every batch.
        products: See `GapCosts.products`.
        variable: Prediction type of the values in `products`.
        gains: Measured gains of the network at every step, (N,); None takes the formula.
    """

    solver: Solver
    parts: Sequence[tuple[Denoise, Tensor, Tensor]]
    products: Array
    variable: Prediction
    gains: Array | None


def sample_plainly(solver: Solver, batches: Batches, samples: int, variable: Prediction = "x0") -> Plain:
    """Samples without acceleration, and keeps what a search needs.

    Args:
        solver: The solver, with its grid; it must draw no noise.
        batches: The samples: `batches(count)` yields denoisers and start noise.
        samples: Number of samples.
        variable: Prediction type of the values that are to be predicted.

    Raises:
        ValueError: if the solver draws noise, so that runs cannot be compared.
    """
    if getattr(solver, "noise", None) is not None:
        raise ValueError(f"{type(solver).__name__} draws noise: a schedule is searched with a solver without")
    parts: list[tuple[Denoise, Tensor, Tensor]] = []
    products = np.zeros((solver.n_evals, solver.n_evals))
    gains = None
    for denoise, noise in batches(samples):
        seen: list[Step] = []
        end = sample(solver, denoise, noise, observer=seen.append).x
        states, clean = torch.stack([step.x for step in seen]), torch.stack([step.x0 for step in seen])
        products += inner_products(outputs_of(solver, variable, states, clean)) * len(noise) / samples
        parts.append((denoise, noise, end))
        gains = gains if gains is not None else _measured(denoise, solver)
    return Plain(solver, parts, products, variable, gains)


def _measured(denoise: Denoise, solver: Solver) -> Array | None:
    """Gains from the first of a denoiser's calibrations that fits the solver."""
    held = (one for one in getattr(denoise, "calibrations", ()) if isinstance(one, Calibration))
    found = next((one for one in held if one.misfit(solver) is None), None)
    return None if found is None else np.array(found.gains)


def search_schedule(
    plain: Plain,
    evaluations: int,
    wanted: Schedule,
    *,
    effort: SearchEffort = SearchEffort(),  # noqa: B008 - frozen
    tried: Mapping[str, float] | None = None,
    notify: Callable[[str], object] = lambda _: None,
    keep: Callable[[Searched], object] = lambda _: None,
) -> Searched:
    """Searches the best set of `evaluations` steps.

    The same arguments lead to the same search, so that one that was stopped goes on from what it had tried.

    Args:
        plain: Plain runs with the solver, from `sample_plainly`. None of their samples should be reported on.
        evaluations: Number of evaluated steps.
        wanted: Predictor, variable and replay of the skipped steps; its set of steps is not used.
        effort: How much is measured.
        tried: Losses by mask from an earlier search with the same arguments, which are not measured again.
        notify: Called with a line about what is done next.
        keep: Called with the best set so far after every try.

    Returns:
        The best set, with the losses of all that were sampled. The loss is the mean over samples of log10 of the mean
        squared error of the final states against the plain run.

    Raises:
        ValueError: as `check_search`.
    """
    solver, steps = plain.solver, plain.solver.n_evals
    first = check_search(solver, evaluations, wanted, effort)
    costs = GapCosts.of(
        solver,
        plain.products,
        str(wanted.predictor),
        correct=bool(wanted.correct),
        variable=plain.variable,
        gains=plain.gains,
    )
    triples = triple_costs(costs, effort.max_skips)
    tries = _Tries(plain, wanted, effort.tries, dict(tried or {}), notify, keep)
    for power in _POWERS:
        tries.sample(mask_text(best_path(triples**power, evaluations, first), steps))
    while tries.left:
        present = np.flatnonzero([character == "1" for character in tries.best.mask])
        ranked = sorted((costs.cost(other), mask_text(other, steps)) for other in moved(present, steps, first))
        if not any(tries.sample(mask) for _, mask in ranked):
            break
    return tries.best


def check_search(solver: Solver, evaluations: int, wanted: Schedule, effort: SearchEffort) -> int:
    """Checks, before anything is sampled, that a set can be searched.

    Args:
        solver: The solver, with its grid.
        evaluations: Number of evaluated steps.
        wanted: Predictor, variable and replay of the skipped steps.
        effort: How much is measured.

    Returns:
        Number of steps that have to be evaluated at the start.

    Raises:
        ValueError: if the solver does not fit, or there is no set with that number of evaluations.
    """
    steps = solver.n_evals
    replace(wanted, evaluated="1" * steps).begin(solver, torch.Size((1, 1, 8, 8)), seams=True)
    axis = PREDICTORS[str(wanted.predictor)].axis
    first = 1 + sum(not math.isfinite(at) for at in positions(solver, axis))
    least = first + math.ceil((steps - first) / (effort.max_skips + 1))
    if not least <= evaluations <= steps:
        raise ValueError(
            f"a set of {evaluations} of {steps} steps is not possible: it takes {least} to {steps} if at most "
            f"{effort.max_skips} are skipped in a row"
        )
    return first


class _Tries:
    """Samples sets of steps, and keeps the losses and the best of them.

    Attributes:
        best: The best set so far.
    """

    def __init__(
        self,
        plain: Plain,
        wanted: Schedule,
        most: int,
        known: Mapping[str, float],
        notify: Callable[[str], object],
        keep: Callable[[Searched], object],
    ) -> None:
        self._plain, self._wanted, self._most, self._known = plain, wanted, most, known
        self._notify, self._keep = notify, keep
        solver = describe_solver(plain.solver)
        self.best = Searched("", str(wanted.predictor), bool(wanted.correct), solver, "", 1.0, 0, "", math.inf, {})
        self.best = replace(self.best, samples=sum(len(noise) for _, noise, _ in plain.parts))

    @property
    def left(self) -> int:
        """Number of sets that may still be sampled."""
        return self._most - len(self.best.tried)

    def sample(self, mask: str) -> bool:
        """Samples a set that has not been tried, if any tries are left; returns whether it is the best so far."""
        if mask in self.best.tried or not self.left:
            return False
        self._notify(f"{mask.count('1')} of {len(mask)} steps, try {len(self.best.tried) + 1} of at most {self._most}")
        loss = self._known[mask] if mask in self._known else _loss(self._plain, replace(self._wanted, evaluated=mask))
        better = loss < self.best.loss
        tried = {**self.best.tried, mask: loss}
        self.best = replace(self.best, tried=tried)
        if better:
            self.best = replace(self.best, mask=mask, loss=loss)
        self._keep(self.best)
        return better


def mask_text(evaluated: Whole, steps: int) -> str:
    """A set of evaluated steps as a mask of 0 and 1."""
    taken = set(evaluated.tolist())
    return "".join("1" if step in taken else "0" for step in range(steps))


def _loss(plain: Plain, accelerator: Schedule) -> float:
    """Mean over all samples of log10 of the mean squared error of the final states."""
    errors: list[float] = []
    for denoise, noise, end in plain.parts:
        made = sample(plain.solver, denoise, noise, accelerator).x
        errors += (made - end).flatten(1).double().square().mean(dim=1).tolist()
    return float(np.log10(np.maximum(errors, 1e-30)).mean())
