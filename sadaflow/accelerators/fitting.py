"""What fits accelerators to a run: the network's prediction type, its calibrations, and what they need of solvers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

from sadaflow.solvers import Prediction, Solver

from .base import Accelerator

WITHOUT = "accelerator=None (--accelerate none) samples without one"


@runtime_checkable
class FittedAccelerator(Protocol):
    """An accelerator that depends on the network's prediction type; optional beside `Accelerator`."""

    def fitted(self, prediction: Prediction) -> Accelerator:
        """These settings for a network that predicts `prediction`."""
        ...


@runtime_checkable
class CalibratedAccelerator(Protocol):
    """An accelerator that can use what was measured of a network; optional beside `Accelerator`."""

    def calibrated(self, calibrations: Sequence[Any], solver: Solver) -> Accelerator:
        """These settings with the first of a network's calibrations that fits the solver."""
        ...


def calibrated(accelerator: Accelerator, calibrations: Sequence[Any], solver: Solver) -> Accelerator:
    """`accelerator` with a calibration that fits; unchanged if it uses none, or if none fits."""
    if not calibrations or not isinstance(accelerator, CalibratedAccelerator):
        return accelerator
    return accelerator.calibrated(calibrations, solver)


def fitted(accelerator: Accelerator, prediction: Prediction) -> Accelerator:
    """`accelerator` for a network that predicts `prediction`; unchanged if it does not depend on that."""
    return accelerator.fitted(prediction) if isinstance(accelerator, FittedAccelerator) else accelerator


def require_falling_times(solver: Solver, name: str) -> None:
    """Raises ValueError if `solver` evaluates more than once at a time, or returns to an earlier time."""
    times = [node.t for node in solver.nodes]
    if all(later > earlier for earlier, later in pairwise(times)) and len(times) > 1:
        raise ValueError(
            f"accelerator {name!r} follows falling times, and this grid rises from data to noise (inversion): use "
            "accelerator=None, or 'uniform'"
        )
    if any(later >= earlier for earlier, later in pairwise(times)):
        raise ValueError(
            f"accelerator {name!r} needs a solver with one evaluation per step, {type(solver).__name__} returns to "
            "earlier times"
        )


def require_steps(solver: Solver, who: str, needed: int) -> None:
    """Raises ValueError if `solver` makes fewer than `needed` evaluations; `who` begins with the accelerator's name."""
    if solver.n_evals < needed:
        raise ValueError(f"accelerator {who} needs at least {needed} steps, got {solver.n_evals}; {WITHOUT}")
