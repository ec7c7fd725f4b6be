"""Statistical checks of stochastic solvers: mean and covariance of their samples on a Gaussian."""

import math
from collections.abc import Callable, Mapping
from typing import Final

import torch
from scipy.stats import chi2, norm
from torch import Tensor

from ..base import Solver
from ..grid import Grid
from ..noise import NoiseSource, SeededNoise
from .problems import tilted_gaussian
from .report import Law

_DRAWS: Final = 20_000
_STEPS: Final = 400
_ALARM: Final = 5e-5  # per test; with 4 tests per grid and at most 3 grids, below 1e-3 in total


def distribution_laws(
    make: Callable[[Grid, NoiseSource], Solver], grids: Mapping[str, Callable[[int], Grid]]
) -> list[Law]:
    """Draws samples of a Gaussian with its exact denoiser and tests their mean and covariance.

    Whitened samples are unit normal: n |mean|^2 is chi-square distributed, and so is the sum of squares of each
    coordinate; the mean product of coordinates is normal. All tests together raise a false alarm for fewer than one in
    1000 seeds; the seed is fixed, so a solver passes always or never.

    Args:
        make: `make(grid, noise)` makes a solver.
        grids: maps names to functions from a number of steps to a grid; every second one is used.
    """
    laws = []
    for name in list(grids)[::2]:
        z = _whitened(make, grids[name](_STEPS))
        size, columns = z.shape
        statistics = {"mean": (float(size * z.mean(0).square().sum()), chi2(columns))}
        for column in range(columns):
            statistics[f"variance {column}"] = (float(z[:, column].square().sum()), chi2(size))
        products = float((z[:, 0] * z[:, 1]).sum()) / math.sqrt(size)
        statistics["covariance"] = (products, norm)
        for what, (value, law) in statistics.items():
            chance = 2 * min(float(law.cdf(value)), float(law.sf(value)))
            laws.append(
                Law("distribution", f"[{name}] {what}", f"p = {chance:.2g}", f"p > {_ALARM:g}", chance > _ALARM)
            )
    return laws


def _whitened(make: Callable[[Grid, NoiseSource], Solver], grid: Grid) -> Tensor:
    """Samples (n, 2) at the end of the grid, whitened by the target's mean and covariance there."""
    data, solver = tilted_gaussian(), make(grid, SeededNoise((0,)))
    generator = torch.Generator().manual_seed(7)
    # The solver sees all draws as one sample, so that one noise seed suffices.
    first = grid.points[0]
    clean = data.means[0] + torch.randn(_DRAWS, 2, generator=generator).double() @ _root(data.covariances[0]).T
    noise = torch.randn(_DRAWS, 2, generator=generator).double()
    state = solver.start(((first.alpha * clean + first.sigma * noise) / grid.start_scale)[None])
    while state.step < solver.n_evals:
        node = solver.nodes[state.step]
        x0 = data.x0(state.x[0], node.alpha, node.sigma)[None]
        state = solver.step(state, x0)
    end = grid.points[-1]
    covariance = end.alpha**2 * data.covariances[0] + end.sigma**2 * torch.eye(2).double()
    centred = state.x[0] - end.alpha * data.means[0]
    white: Tensor = torch.linalg.solve_triangular(_root(covariance), centred.T, upper=False)
    return white.T


def _root(covariance: Tensor) -> Tensor:
    """Lower Cholesky factor."""
    root: Tensor = torch.linalg.cholesky(covariance)
    return root
