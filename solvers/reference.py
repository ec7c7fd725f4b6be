"""Reference solutions of the probability-flow ODE by scipy's DOP853."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .grid import Grid

X0 = Callable[[Tensor, float, float], Tensor]


def reference_solution(x0: X0, grid: Grid, x: Tensor, rtol: float = 1e-11, atol: float = 1e-12) -> Tensor:
    """x at the end of `grid`, from x (B, ...) at its start, in float64. `x0(x, alpha, sigma)` is the denoiser.

    Every schedule is rectified flow up to a scaling: y = x / (alpha + sigma) moves with dy/ds = eps - x0 in
    s = sigma / (alpha + sigma). This frame is smooth whatever the schedule, and uses none of the solvers' code.
    Raises RuntimeError where the integration fails, e.g. where the end is so close to s = 0 that the field is stiff.
    """
    from scipy.integrate import solve_ivp  # slow to import, and for tests alone

    fraction = (grid.sigma / (grid.alpha + grid.sigma))[[0, -1]].tolist()
    total = (grid.alpha + grid.sigma)[[0, -1]].tolist()

    def field(s: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
        state = torch.as_tensor(y).view_as(x)
        clean = x0(state, 1 - s, s)
        rate: NDArray[np.float64] = ((state - clean) / s).flatten().numpy()  # eps - x0, as y = (1 - s) x0 + s eps
        return rate

    start = (x.double() / total[0]).flatten().numpy()
    solved = solve_ivp(field, (fraction[0], fraction[1]), start, method="DOP853", rtol=rtol, atol=atol)
    if not solved.success:
        raise RuntimeError(f"the reference integration failed: {solved.message}")
    return torch.as_tensor(total[1] * solved.y[:, -1]).view_as(x)
