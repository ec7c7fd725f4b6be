"""The velocity of a solver at every node, against the schedule's derivatives and the slope of the exact trajectory."""

from collections.abc import Iterator

from torch import Tensor

from ..grid import Grid, Node, point_at
from .examination import SAMPLES, Examination
from .problems import NOISE, clean, independent, normal
from .report import Law


def velocities(examination: Examination, name: str) -> Iterator[Law]:
    """Checks `velocity` at every node of a grid, the last one included."""
    yield _velocity(examination, examination.grids[name](7), f"[{name}]")
    yield _velocity(examination, clean(examination.grids[name](7)), f"[{name}, to clean data]")


def velocities_from_noise(examination: Examination) -> Iterator[Law]:
    """Checks `velocity` on grids that start at pure noise."""
    for name, grid in examination.own(NOISE).items():
        yield _velocity(examination, grid(7), f"[{name}]")


def _velocity(examination: Examination, grid: Grid, where: str) -> Law:
    solver, data = examination.make(grid), independent(2)
    x = normal(SAMPLES, 2)
    worst, at = 0.0, 0
    for step, node in enumerate(solver.nodes):
        x0 = data.x0(x, node.alpha, node.sigma)
        y = solver.velocity(x, x0, step)
        if y.shape != x.shape or y.dtype != x.dtype:
            return Law("velocity", where, f"{tuple(y.shape)} {y.dtype}", f"{tuple(x.shape)} {x.dtype}", False)
        # A noise table has a kink at every entry, where the slopes of both sides are right, and so is their mean.
        sides = [_slope(grid, node, x, x0, side) for side in (-1.0, 1.0)]
        right = [*sides, (sides[0] + sides[1]) / 2]
        scale = 1e-12 + max(float(side.abs().max()) for side in sides)
        off = min(float((y - slope).abs().max()) / scale for slope in right)
        if not off <= worst:
            worst, at = off, step
    allowed = examination.allowed("velocity", 1e-5)
    shown = f"off by {worst:.1e} at node {at}"
    return Law("velocity", where, shown, f"below {allowed:g} at every node", worst < allowed)


def _slope(grid: Grid, node: Node, x: Tensor, x0: Tensor, side: float) -> Tensor:
    """One-sided difference of alpha x0 + sigma eps in t, with the eps of x, of second order."""
    schedule = grid.schedule
    h = side * 1e-5 * (1.0 if schedule.t_max > 2 else 0.1) * min(1.0, abs(node.t - schedule.t_min))
    if node.t + 2 * h > schedule.t_max:
        h = -h
    near = [point_at(schedule, node.t + k * h) for k in (0, 1, 2)]
    rates = [(-3 * getattr(near[0], key) + 4 * getattr(near[1], key) - getattr(near[2], key)) / (2 * h)
             for key in ("alpha", "sigma")]  # fmt: skip
    return rates[0] * x0 + rates[1] * (x - node.alpha * x0) / node.sigma
