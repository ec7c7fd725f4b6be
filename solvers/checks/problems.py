"""Test problems with exact denoisers: data distributions, schedules and grids."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ..base import Solver, State
from ..betas import make_betas, zero_terminal_snr
from ..exact import Gaussian, GaussianMixture
from ..grid import Grid, Point
from ..reference import reference_solution
from ..schedule import EDM, CosineVP, RectifiedFlow
from ..spacing import karras, shift_time
from ..vp_discrete import VPDiscrete
from .guard import advance, follow

Denoise = Callable[[Tensor, int], Tensor]


@cache
def mixture() -> GaussianMixture:
    """Three modes in two dimensions, one with correlated coordinates, so that no symmetry hides an error."""
    means = torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.5]], dtype=torch.float64)
    covariances = torch.tensor([0.25, 0.16, 0.25], dtype=torch.float64)[:, None, None] * torch.eye(2).double()
    covariances[2, 0, 1] = covariances[2, 1, 0] = 0.1
    return GaussianMixture(torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64), means, covariances)


@cache
def tilted_gaussian() -> Gaussian:
    """One Gaussian in two dimensions with correlated coordinates."""
    mean = torch.tensor([0.7, -1.2], dtype=torch.float64)
    return Gaussian(mean, torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64))


@cache
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


def _repeated(steps: int, *pattern: float) -> np.ndarray:
    """Points from 0 to 1 whose distances repeat a pattern, times a common factor."""
    gaps = np.resize(pattern, steps)
    return np.concatenate([[0.0], np.cumsum(gaps) / gaps.sum()])


def _random(steps: int) -> np.ndarray:
    """Points from 0 to 1 whose distances differ at random by a factor of up to 4."""
    gaps = np.random.default_rng(5).uniform(1.0, 4.0, steps)
    return np.concatenate([[0.0], np.cumsum(gaps) / gaps.sum()])


# Grids whose steps differ by a factor of 4 from one to the next: weights of equal steps lose their order here. On steps
# that alternate, errors of opposite sign may cancel, hence the pattern of three.
JAGGED: Final[Mapping[str, Callable[[int], Grid]]] = {
    "vp-jagged": lambda n: Grid.from_t(stable_diffusion(), 999 - 899 * _repeated(n, 4, 1)),
    "edm-jagged": lambda n: Grid.from_t(EDM(), 5.0 * (0.1 / 5.0) ** _repeated(n, 4, 1)),
    "flow-jagged": lambda n: Grid.from_t(RectifiedFlow(), 0.95 - 0.8 * _repeated(n, 4, 1)),
    "flow-uneven": lambda n: Grid.from_t(RectifiedFlow(), 0.95 - 0.8 * _repeated(n, 4, 1, 2)),
    "flow-random": lambda n: Grid.from_t(RectifiedFlow(), 0.95 - 0.9 * _random(n)),
}


# Parts of trajectories in which samples of stochastic solvers without noise do not gather at a mode.
MIDDLE: Final[Mapping[str, Callable[[int], Grid]]] = {
    "vp-middle": lambda n: Grid.from_t(stable_diffusion(), np.linspace(800, 300, n + 1)),
    "flow-middle": lambda n: Grid.from_t(RectifiedFlow(), np.linspace(0.8, 0.4, n + 1)),
}


@cache
def zero_snr(last: float) -> VPDiscrete:
    """Stable Diffusion's table rescaled to zero terminal SNR, with `last` as its last alpha^2."""
    table = torch.cumprod(1 - zero_terminal_snr(make_betas("scaled_linear", 1000, 0.00085, 0.012)), 0)
    return VPDiscrete(torch.cat([table[:-1], table.new_full((1,), last)]))


def _from(first: float, n: int) -> np.ndarray:
    """Times from `first` down to 0.05."""
    return np.concatenate([[first], np.linspace(1, 0.05, n + 1)[1:]])


# Grids that start at pure noise (alpha = 0), or so near that sigma/alpha is 1e16.
NOISE: Final[Mapping[str, Callable[[int], Grid]]] = {
    "flow-from-0": lambda n: Grid.from_t(RectifiedFlow(), shift_time(_from(1.0, n), 2.0)),
    "flow-from-1e-16": lambda n: Grid.from_t(RectifiedFlow(), _from(1 - 2.0**-53, n)),
    "cosine-from-0": lambda n: Grid.from_t(CosineVP(), _from(1.0, n)),
    "cosine-from-1e-16": lambda n: Grid.from_t(CosineVP(), _from(1 - 2.0**-53, n)),
    "vp-from-1e-16": lambda n: Grid.from_t(zero_snr(1e-32), np.linspace(999, 20, n + 1)),
    "vp-from-1e-5": lambda n: Grid.from_t(zero_snr(1e-10), np.linspace(999, 20, n + 1)),
}


@dataclass(frozen=True, eq=False)
class Independent:
    """Data whose coordinates are independent Gaussians, so that shapes and batches are free and the ODE has a solution.

    Attributes:
        mean: (...), one sample.
        std: (...), one sample.
    """

    mean: Tensor
    std: Tensor

    def x0(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """E[x0 | x] for x (B, ...)."""
        mean, variance = self.mean.to(x), self.std.to(x) ** 2
        return mean + alpha * variance / (alpha * alpha * variance + sigma * sigma) * (x - alpha * mean)

    def denoiser(self, solver: Solver) -> Denoise:
        """`denoise(x, step) -> x0` at the nodes of a solver."""
        return lambda x, step: self.x0(x, solver.nodes[step].alpha, solver.nodes[step].sigma)

    def transport(self, x: Tensor, start: Point, end: Point) -> Tensor:
        """The ODE's x at `end` from x (B, ...) at `start`."""
        spread = [((point.alpha * self.std) ** 2 + point.sigma**2).sqrt() for point in (start, end)]
        return end.alpha * self.mean + (x - start.alpha * self.mean) * (spread[1] / spread[0])


def independent(*shape: int, reach: float = 2.0) -> Independent:
    """Independent Gaussians with means up to `reach` and standard deviations of 0.2 to 2."""
    count = math.prod(shape)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    mean = torch.linspace(-reach, reach, count, dtype=torch.float64)
    std = torch.logspace(math.log10(0.2), math.log10(2.0), count, dtype=torch.float64)[order]
    return Independent(mean.reshape(shape), std.reshape(shape))


def clean(grid: Grid) -> Grid:
    """Returns the grid with its last point moved to clean data."""
    t = [*grid.t[:-1].tolist(), grid.schedule.t_min]
    return Grid.from_t(grid.schedule, t, grid.timestep, grid.start_scale, grid.between)


def unit_noise(samples: int, seed: int = 0) -> Tensor:
    """Draws unit-normal noise (samples, 2) in float64."""
    return normal(samples, 2, seed=seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Draws unit-normal noise in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def final_x(solver: Solver, denoise: Denoise, noise: Tensor) -> Tensor:
    """Returns x (B, ...) at the end of the solver's grid."""
    return finish(solver, denoise, solver.start(noise))


def finish(solver: Solver, denoise: Denoise, state: State) -> Tensor:
    """Runs a state to the end of the solver's grid and returns x."""
    for *_, after in follow(solver, state, denoise):
        state = after
    return state.x


def exact_start(solver: Solver, data: GaussianMixture, noise: Tensor, evaluations: int) -> State:
    """Returns the state after `evaluations` evaluations made on the true trajectory.

    The solver fills its history itself; x is set to the true trajectory after every step. For methods whose first steps
    have lower order: from there on only their formula determines the error.
    """
    state, denoise = solver.start(noise), data.denoiser(solver)
    for evaluation in range(evaluations):
        state = advance(solver, state, denoise(state.x, evaluation))
        t = solver.nodes[evaluation + 1].t
        begin = solver.grid.points[0].t
        x = solver.start(noise).x
        if t < begin:
            x = reference_solution(data.x0, Grid.from_t(solver.grid.schedule, [begin, t]), x)
        state = State(x, state.step, state.history, state.anchor)
    return state
