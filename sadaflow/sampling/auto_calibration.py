"""Measures a calibration of `Auto`: how errors of x0 grow, and how many evaluations a tolerance costs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from sadaflow.solvers import Solver

from ..accelerators.auto.auto import Auto
from ..accelerators.auto.calibration import Calibration, describe_solver
from .auto_forks import fit_forks
from .cost_curve import cost_curve
from .denoiser import RowDenoise
from .error_gains import error_gains, gains_of_all_steps

Batches = Callable[[int], Iterable[tuple[RowDenoise, Tensor]]]
"""`batches(count)` yields the first `count` samples in batches: a denoiser, and the start noise (B, ...)."""


@dataclass(frozen=True)
class Effort:
    """How much a calibration measures.

    Attributes:
        samples: Samples of the cost curve.
        perturbed: Samples whose errors are followed to the end.
        points: Steps at which errors are made.
        batch: Most samples per evaluation of the network.
        planned: Samples that plans of few evaluations are fitted to; 0 fits none.
    """

    samples: int = 16
    perturbed: int = 6
    points: int = 17
    batch: int = 8
    planned: int = 16

    def __post_init__(self) -> None:
        for name in ("samples", "perturbed", "points", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a calibration must be at least 1, got {getattr(self, name)}")
        if self.planned < 0:
            raise ValueError(f"planned of a calibration must be at least 0, got {self.planned}")


def calibrate(
    solver: Solver,
    batches: Batches,
    *,
    weights: str,
    guidance: float = 1.0,
    effort: Effort = Effort(),  # noqa: B008 - frozen
    accelerator: Auto = Auto(),  # noqa: B008 - frozen
    notify: Callable[[str], object] = lambda _: None,
) -> Calibration:
    """Measures a calibration of a network on a solver's steps.

    Gains are measured first, by replacing x0 of single steps (`error_gains`); under these gains the evaluations that
    `auto` makes are then counted for a series of tolerances (`cost_curve`). Last, plans of few evaluations are fitted
    (`fit_forks`).

    Args:
        solver: The solver, with its grid.
        batches: The samples to measure. They should be none that results are reported on.
        weights: Digest of the network's weights.
        guidance: Scale of guidance of the denoisers, which the calibration is valid for.
        effort: How much is measured.
        accelerator: The settings whose cost is measured.
        notify: Called with a line about what is done next.

    Raises:
        ValueError: If the solver draws noise, or does not fit `auto`.
    """
    if getattr(solver, "noise", None) is not None:
        raise ValueError(f"{type(solver).__name__} draws noise: `auto`, and so its calibration, needs a solver without")
    settings = replace(accelerator, tolerance=Auto.tolerance, speedup=None, budget=None, max_nfe=None, calibration=None)
    fewest = settings.fewest_evaluations(solver)
    steps = sorted({round(float(step)) for step in np.linspace(2, solver.n_evals - 3, effort.points)})
    notify(f"errors of {len(steps)} steps, {effort.perturbed} samples")
    measured = [
        error_gains(solver, denoise, noise, steps, batch=effort.batch) for denoise, noise in batches(effort.perturbed)
    ]
    gains = gains_of_all_steps(solver, steps, np.concatenate(measured, axis=1))
    found = Calibration(
        weights=weights,
        solver=describe_solver(solver),
        log_snr=tuple(node.log_snr for node in solver.nodes),
        guidance=guidance,
        gains=tuple(gains.tolist()),
        settings=settings.shape_settings(),
        tolerances=(settings.tolerance,),
        evaluations=(float(solver.n_evals),),  # measured next, with course and samples
        course=(1.0,) * solver.n_evals,
        samples=0,
    )
    curve = cost_curve(solver, lambda: batches(effort.samples), replace(settings, calibration=found), fewest, notify)
    found = replace(found, **vars(curve))
    if effort.planned:
        notify(f"plans of few evaluations, {effort.planned} samples")
        found = replace(found, forks=fit_forks(solver, batches(effort.planned), found, settings))
    return found
