"""Laws on whole trajectories: compared with exact ones, from pure noise, on uneven grids and in few steps."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..base import Solver
from ..grid import Grid
from ..linear import first_order
from .examination import SAMPLES, Examination, trajectory
from .guard import evaluations, follow
from .problems import JAGGED, NOISE, Independent, clean, final_x, independent, normal, unit_noise
from .report import Law

_LOOSER = 3.0  # times the error of Euler's method on the same grid
_SIZE = 6


def _wide() -> Independent:
    """Data larger than pictures in [-1, 1], so that clipping shows."""
    return independent(_SIZE, reach=12.0)


def errors(solver: Solver, data: Independent, noise: Tensor) -> list[float]:
    """Largest errors at the nodes that are grid points, and at the end, relative to the largest exact |x| there."""
    grid, first = solver.grid, solver.grid.points[0]
    start = solver.start(noise)
    found = []
    for state, _, after in follow(solver, start, data.denoiser(solver)):
        node = solver.nodes[state.step]
        if float((grid.t - node.t).abs().min()) < 1e-9 * (1 + abs(node.t)):
            exact = data.transport(start.x, first, node)
            found.append(float((state.x - exact).abs().max() / exact.abs().max()))
        end = after.x
    exact = data.transport(start.x, first, grid.points[-1])
    return [*found, float((end - exact).abs().max() / exact.abs().max())]


def euler_error(grid: Grid, data: Independent, noise: Tensor) -> float:
    """The largest relative error of Euler's method at the points of a grid."""
    x = start = noise * grid.start_scale
    worst = 0.0
    for here, there in zip(grid.points, grid.points[1:], strict=False):
        update = first_order(here, there)
        x = update.keep * x + update.weights[0] * data.x0(x, here.alpha, here.sigma)
        exact = data.transport(start, grid.points[0], there)
        worst = max(worst, float((x - exact).abs().max() / exact.abs().max()))
    return worst


def _against_euler(examination: Examination, law: str, grid: Grid, where: str, looser: float = _LOOSER) -> Law:
    data, noise = _wide(), normal(SAMPLES, _SIZE)
    found = errors(examination.make(grid), data, noise)
    bad = [error for error in found if not math.isfinite(error)]
    worst, euler = (math.nan if bad else max(found)), euler_error(grid, data, noise)
    allowed = examination.allowed(law, looser) * euler + 1e-9
    shown = "not finite" if bad else f"{worst:.1e} at point {found.index(worst)}"
    return Law(law, where, shown, f"below {allowed:.1e}, {allowed / euler:.0f} times Euler's", worst < allowed)


def trajectories(examination: Examination, name: str) -> Iterator[Law]:
    """Checks every point of trajectories to clean data, and that more steps make them better."""
    grid = examination.grids[name]
    for steps in (7, 24):
        yield _against_euler(examination, "trajectory", clean(grid(steps)), f"[{name}, {steps} to clean data]")
    few, many = (_worst(examination, grid(steps)) for steps in (12, 96))
    better = many < 0.6 * few or many < 1e-9
    yield Law("convergence", f"[{name}]", f"{few:.1e} in 12 steps, {many:.1e} in 96", "a smaller error", better)


def _worst(examination: Examination, grid: Grid) -> float:
    return max(errors(examination.make(grid), _wide(), normal(SAMPLES, _SIZE)))


def uneven(examination: Examination) -> Iterator[Law]:
    """Checks trajectories on grids with steps of very different lengths."""
    for name, grid in examination.own(JAGGED).items():
        yield _against_euler(examination, "jagged grid", grid(24), f"[{name}]")
        yield _against_euler(examination, "jagged grid", clean(grid(24)), f"[{name}, to clean data]")


def from_noise(examination: Examination) -> Iterator[Law]:
    """Checks grids that start at alpha = 0 or very near it, in many steps, in two and in one."""
    for name, grid in examination.own(NOISE).items():
        for steps in (24, 2, 1):
            for each, kind in ((grid(steps), ""), (clean(grid(steps)), ", to clean data")):
                where, looser = f"[{name}, {steps}{kind}]", _LOOSER if steps > 2 else 2 * _LOOSER
                if examination.stochastic:
                    yield _finite(examination, "noise start", each, where)
                else:
                    yield _against_euler(examination, "noise start", each, where, looser)


def few_steps(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that one and two steps can be made, to clean data and before it."""
    for steps in (1, 2):
        grid = examination.grids[name](steps)
        for each, kind in ((grid, ""), (clean(grid), ", to clean data")):
            yield _finite(examination, "few steps", each, f"[{name}, {steps}{kind}]")


def _finite(examination: Examination, law: str, grid: Grid, where: str) -> Law:
    """Checks that every state and velocity is a number, and no larger than samples can be."""
    solver = examination.make(grid)
    largest = 0.0
    start = solver.start(unit_noise(SAMPLES))
    for state, x0, after in follow(solver, start, lambda x, step: _safe_x0(solver, x, step)):
        y = solver.velocity(state.x, x0, state.step)
        if not bool(torch.isfinite(after.x).all() and torch.isfinite(y).all()):
            return Law(law, where, f"not finite after evaluation {state.step}", "finite", False)
        point = solver.nodes[after.step] if after.step < evaluations(solver) else grid.points[-1]
        largest = max(largest, float(after.x.abs().max()) / (point.alpha + point.sigma))
    allowed = examination.allowed(law, 300.0)
    return Law(law, where, f"|x| up to {largest:.1f}", f"below {allowed:g} times alpha + sigma", largest < allowed)


def _safe_x0(solver: Solver, x: Tensor, step: int) -> Tensor:
    """A bounded x0, so that only the solver can make large states."""
    node = solver.nodes[step]
    return 2 * (x / (node.alpha + node.sigma)).tanh()


def end(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that on a grid to clean data the last step returns alpha x0 to the last bit, for every length."""
    exact = finite = True
    for steps in (1, 2, 3, 6, 7, 16):
        solver = examination.make(clean(examination.grids[name](steps)))
        run = trajectory(solver, unit_noise(SAMPLES))
        finite &= all(bool(torch.isfinite(after.x).all()) for *_, after in run)
        _, x0, last = run[-1]
        exact &= torch.equal(last.x, solver.grid.points[-1].alpha * x0)
    found = "not finite" if not finite else "equal" if exact else "a different x"
    yield Law("ends at x0", f"[{name}, to clean data]", found, "alpha times the last x0", exact and finite)


def constants(examination: Examination, name: str) -> Iterator[Law]:
    """Checks the digits of the weights on data of one point, where methods in x0, eps or eps - x0 are exact."""
    solver = examination.make(examination.grids[name](7))
    x0 = normal(SAMPLES, 3, seed=2)
    first, last = solver.grid.points[0], solver.grid.points[-1]
    eps = (solver.start(normal(SAMPLES, 3)).x - first.alpha * x0) / first.sigma
    x = final_x(solver, lambda x, step: x0, normal(SAMPLES, 3))
    off = float((x - last.alpha * x0 - last.sigma * eps).abs().max())
    fine = off < 1e-10 or off > 1e-4
    shown = f"off by {off:.1e}" + ("" if off < 1e-4 else ": not such a method")
    yield Law("constant x0", f"[{name}]", shown, "exact to rounding in float64", fine)
