"""Reference solutions of the probability-flow ODE by scipy's DOP853."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .grid import Grid

X0 = Callable[[Tensor, float, float], Tensor]


def reference_solution(x0: X0, grid: Grid, x: Tensor, rtol: float = 1e-11, atol: float = 1e-12) -> Tensor:
    """Integrates the probability-flow ODE from the start to the end of `grid` in float64.

    Every schedule is rectified flow up to a scaling: y = x / (alpha + sigma) satisfies dy/ds = eps - x0 with s = sigma
    / (alpha + sigma). This form is smooth for every schedule and shares no code with the solvers.

    Args:
        x0: the denoiser, `x0(x, alpha, sigma)`.
        grid: only its first and last points are used.
        x: (B, ...), state at the start of `grid`.
        rtol: relative tolerance of the integrator.
        atol: absolute tolerance of the integrator.

    Returns:
        x (B, ...) at the end of `grid`.

    Raises:
        RuntimeError: if the integration fails, e.g. because the end is so close to s = 0 that the ODE is stiff.
    """
    from scipy.integrate import solve_ivp  # imported here because importing scipy is slow; only tests need it

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
