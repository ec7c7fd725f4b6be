"""Problems that several solver tests share."""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import EDM, Grid, RectifiedFlow, Solver, VPDiscrete, make_betas
from sadaflow.solvers.exact import GaussianMixture
from sadaflow.solvers.spacing import karras, shift_time


def mixture() -> GaussianMixture:
    """Three modes in two dimensions, one of them tilted."""
    means = torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.5]], dtype=torch.float64)
    covariances = torch.tensor([0.25, 0.16, 0.25], dtype=torch.float64)[:, None, None] * torch.eye(2).double()
    covariances[2, 0, 1] = covariances[2, 1, 0] = 0.1
    return GaussianMixture(torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64), means, covariances)


def stable_diffusion() -> VPDiscrete:
    return VPDiscrete(torch.cumprod(1 - make_betas("scaled_linear", 1000, 0.00085, 0.012), 0))


# Grids of n steps that stop short of clean data, so that the order of a method shows up to its last step.
GRIDS: Final[dict[str, Callable[[int], Grid]]] = {
    "vp": lambda n: Grid.from_t(stable_diffusion(), np.linspace(999, 10, n + 1)),
    "vp-karras": lambda n: Grid.from_sigma_ve(stable_diffusion(), karras(14.6, 0.1, n + 1)),
    "edm-karras": lambda n: Grid.from_t(EDM(), karras(20.0, 0.05, n + 1)),
    "flow": lambda n: Grid.from_t(RectifiedFlow(), np.linspace(1, 0.05, n + 1)),
    "flow-shifted": lambda n: Grid.from_t(RectifiedFlow(), shift_time(np.linspace(1, 0.05, n + 1), 3.0)),
}


def final_x(solver: Solver, denoise: Callable[[Tensor, int], Tensor], noise: Tensor) -> Tensor:
    """x at the end of the solver's grid."""
    state = solver.start(noise)
    while state.step < solver.n_evals:
        state = solver.step(state, denoise(state.x, state.step))
    return state.x
