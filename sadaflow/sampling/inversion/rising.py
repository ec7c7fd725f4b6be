"""Inversion by the ODE: one run of a solver from data to noise."""

from torch import Tensor

from sadaflow.solvers import Solver
from sadaflow.solvers.inversion import rising

from ..denoiser import Denoise
from .results import InversionStats, Inverted
from .walk import Walk, relative


def invert_by_ode(solver: Solver, denoise: Denoise, rising_denoise: Denoise, x: Tensor) -> Inverted:
    """Follows the ODE from x at the last point of a grid to the first one, by the solver on the rising grid.

    The way back closes in the order of the solver: its error is measured by a run, and falls with the steps.

    Args:
        solver: A solver that draws no noise; its grid ends above clean data.
        denoise: Its denoiser.
        rising_denoise: The denoiser of `rising(solver)`.
        x: States to invert, (B, ...).
    """
    up, down = (Walk(way, own, len(x)) for way, own in ((rising(solver), rising_denoise), (solver, denoise)))
    noisy = up.run(x)
    error = relative(down.run(noisy) - x, x).tolist()
    nfe = [there + back for there, back in zip(up.nfe, down.nfe, strict=True)]
    return Inverted(noisy, solver, InversionStats("ode", nfe, 1, error))
