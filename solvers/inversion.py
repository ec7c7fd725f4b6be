"""Grids for inversion, which is sampling from data to noise."""

import math
from typing import Final

from .base import Solver
from .grid import Grid
from .part import on_grid
from .points import point_at
from .schedule import EDM, Schedule
from .vp_discrete import VPDiscrete

_CLOSE: Final = 1e-3
"""sigma/alpha of data on schedules that have no lowest level of their own."""


def lowest_time(schedule: Schedule) -> float:
    """Returns the time of the least noise that networks on a schedule were trained on.

    It is timestep 0 of a table, `sigma_min` of EDM, and sigma/alpha = 0.001 on continuous schedules.
    """
    if isinstance(schedule, VPDiscrete):
        return 0.0
    if isinstance(schedule, EDM):
        return schedule.sigma_min
    return float(schedule.t_from_log_snr(-math.log(_CLOSE)))


def noisy_grid(grid: Grid) -> Grid:
    """Returns a falling grid whose last point has the least noise of training in place of none.

    At clean data eps is not defined, and a step to it forgets the state that it came from. On the grid returned the
    last step can be reversed.

    Args:
        grid: a falling grid; returned unchanged if it ends above clean data.

    Raises:
        ValueError: if the grid rises, or has no point above that noise.
    """
    if grid.rises:
        raise ValueError("the grid rises already, from data to noise: give the falling grid of sampling")
    if float(grid.sigma[-1]) > 0:
        return grid
    low = point_at(grid.schedule, lowest_time(grid.schedule))
    above = int((grid.t[:-1] > low.t + 1e-6 * max(1.0, abs(low.t))).sum())
    if above == 0:
        raise ValueError(f"the grid has no point above t = {low.t:g}, the least noise of training: take more steps")
    times = grid.t[: above + 1].clone()
    times[-1] = low.t
    alpha, sigma = grid.schedule.alpha(times), grid.schedule.sigma(times)
    return Grid(
        grid.schedule, times, alpha, sigma, grid.timestep[:above], grid.start_scale, grid.between, grid.planned_steps
    )


def rising_grid(grid: Grid) -> Grid:
    """Returns the points of a falling grid from data to noise; a run on it starts from the state itself.

    The network is evaluated where x stands, with the timestep of that point. Diffusers' `DDIMInverseScheduler`
    evaluates at the lower noise level with the timestep of the higher one, and differs for that reason.

    Args:
        grid: a falling grid that ends above clean data, as `noisy_grid` makes it.

    Raises:
        ValueError: if the grid ends on clean data.
    """
    low = grid.points[-1]
    lowest = float(grid.schedule.timestep(low.t)) if grid.between is None else grid.between(low.t)
    timesteps = [lowest, *grid.timestep.flip(0).tolist()[:-1]]
    return Grid.from_t(grid.schedule, grid.t.flip(0), timesteps, between=grid.between)


def reversible(solver: Solver) -> Solver:
    """Returns the solver on the `noisy_grid` of its own.

    Raises:
        ValueError: if the solver cannot be built anew on another grid.
    """
    grid = noisy_grid(solver.grid)
    return solver if grid is solver.grid else on_grid(solver, grid)


def rising(solver: Solver) -> Solver:
    """Returns the solver on the `rising_grid` of its own, which ends above clean data.

    Raises:
        ValueError: if the solver draws noise, or cannot be built anew on another grid.
    """
    return on_grid(solver, rising_grid(solver.grid))
