"""Test problems with exact denoisers: data distributions, schedules and grids."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ..base import Solver, State
from ..betas import make_betas
from ..exact import Gaussian, GaussianMixture
from ..grid import Grid
from ..reference import reference_solution
from ..schedule import EDM, RectifiedFlow
from ..spacing import karras, shift_time
from ..vp_discrete import VPDiscrete

Denoise = Callable[[Tensor, int], Tensor]


def mixture() -> GaussianMixture:
    """Three modes in two dimensions, one with correlated coordinates, so that no symmetry hides an error."""
    means = torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.5]], dtype=torch.float64)
    covariances = torch.tensor([0.25, 0.16, 0.25], dtype=torch.float64)[:, None, None] * torch.eye(2).double()
    covariances[2, 0, 1] = covariances[2, 1, 0] = 0.1
    return GaussianMixture(torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64), means, covariances)


def tilted_gaussian() -> Gaussian:
    """One Gaussian in two dimensions with correlated coordinates."""
    mean = torch.tensor([0.7, -1.2], dtype=torch.float64)
    return Gaussian(mean, torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64))


def stable_diffusion() -> VPDiscrete:
    """The noise table of Stable Diffusion."""
    return VPDiscrete(torch.cumprod(1 - make_betas("scaled_linear", 1000, 0.00085, 0.012), 0))


# Grids of n steps from a finite log-SNR to a point before clean data, where an order of convergence is defined.
GRIDS: Final[Mapping[str, Callable[[int], Grid]]] = {
    "vp-uniform": lambda n: Grid.from_t(stable_diffusion(), np.linspace(999, 100, n + 1)),
    "vp-karras": lambda n: Grid.from_sigma_ve(stable_diffusion(), karras(14.6, 0.1, n + 1)),
    "edm-uniform": lambda n: Grid.from_t(EDM(), np.linspace(5.0, 0.5, n + 1)),
    "edm-karras": lambda n: Grid.from_t(EDM(), karras(20.0, 0.1, n + 1)),
    "flow-uniform": lambda n: Grid.from_t(RectifiedFlow(), np.linspace(0.95, 0.15, n + 1)),
    "flow-shifted": lambda n: Grid.from_t(RectifiedFlow(), shift_time(np.linspace(0.9, 0.05, n + 1), 3.0)),
}


def clean(grid: Grid) -> Grid:
    """Returns the grid with its last point moved to clean data."""
    t = [*grid.t[:-1].tolist(), grid.schedule.t_min]
    return Grid.from_t(grid.schedule, t, grid.timestep, grid.start_scale)


def unit_noise(samples: int, seed: int = 0) -> Tensor:
    """Draws unit-normal noise (samples, 2) in float64."""
    return torch.randn(samples, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def final_x(solver: Solver, denoise: Denoise, noise: Tensor) -> Tensor:
    """Returns x (B, ...) at the end of the solver's grid."""
    return finish(solver, denoise, solver.start(noise))


def finish(solver: Solver, denoise: Denoise, state: State) -> Tensor:
    """Runs a state to the end of the solver's grid and returns x."""
    while state.step < solver.n_evals:
        state = solver.step(state, denoise(state.x, state.step))
    return state.x


def exact_start(solver: Solver, data: GaussianMixture, noise: Tensor, evaluations: int) -> State:
    """Returns the state after `evaluations` evaluations made on the true trajectory.

    The solver fills its history itself; x is set to the true trajectory after every step. For methods whose first steps
    have lower order: from there on only their formula determines the error.
    """
    state, denoise = solver.start(noise), data.denoiser(solver)
    for evaluation in range(evaluations):
        state = solver.step(state, denoise(state.x, evaluation))
        t = solver.nodes[evaluation + 1].t
        begin = solver.grid.points[0].t
        x = solver.start(noise).x
        if t < begin:
            x = reference_solution(data.x0, Grid.from_t(solver.grid.schedule, [begin, t]), x)
        state = State(x, state.step, state.history, state.anchor)
    return state
