"""The velocity of a solver, measured against finite differences."""

from typing import Any

import torch
from torch import Tensor

from ..base import Solver
from ..grid import Grid
from ..reference import reference_solution
from .laws import SAMPLES, Examination
from .problems import mixture, unit_noise
from .report import Law


def _smooth_step(solver: Solver, h: float) -> int:
    """Returns a step whose node is at no kink of the schedule (a discrete table has a kink at each entry)."""
    schedule = solver.grid.schedule

    def kink(step: int) -> float:
        t = solver.nodes[step].t
        values = schedule.sigma(torch.tensor([t - h, t, t + h], dtype=torch.float64))
        return abs(float(values.diff().diff()))

    return min(range(solver.n_evals), key=kink)


class _Ends:
    """Two points of a schedule in any order; has the attributes of a grid that the reference integration reads."""

    def __init__(self, alpha: Tensor, sigma: Tensor) -> None:
        self.alpha, self.sigma = alpha, sigma


def _between(grid: Grid, start: float, end: float) -> Any:
    t = torch.tensor([start, end], dtype=torch.float64)
    return _Ends(grid.schedule.alpha(t), grid.schedule.sigma(t))


def velocity_laws(examination: Examination, name: str) -> list[Law]:
    """Checks `velocity` against finite differences of the schedule and against the slope of the true trajectory."""
    grid, data = examination.grids[name](7), mixture()
    solver, schedule = examination.make(grid), grid.schedule
    h = 1e-6 * (schedule.t_max - schedule.t_min)
    step = _smooth_step(solver, h)
    node = solver.nodes[step]
    x = unit_noise(SAMPLES)
    x0 = data.x0(x, node.alpha, node.sigma)
    y = solver.velocity(x, x0, step)
    scale = float(y.abs().max())
    near = torch.tensor([node.t - h, node.t + h], dtype=torch.float64)
    rates = [float(part(near).diff()) / (2 * h) for part in (schedule.alpha, schedule.sigma)]
    analytic = rates[0] * x0 + rates[1] * (x - node.alpha * x0) / node.sigma
    ends = [reference_solution(data.x0, _between(grid, node.t, node.t + side), x) for side in (-h, h)]
    slope = (ends[1] - ends[0]) / (2 * h)
    off = [float((y - other).abs().max()) / scale for other in (analytic, slope)]
    return [
        Law("velocity", f"[{name}] {what}", f"relative {value:.1e}", "below 1e-4", value < 1e-4)
        for what, value in zip(("alpha' x0 + sigma' eps", "slope of DOP853"), off, strict=True)
    ]
