"""Numbers of steps: which of them a scheduler class has timesteps for."""

from typing import Final

from ..grid import Grid
from ..schedule import RectifiedFlow
from ..vp_discrete import VPDiscrete
from .fields import Fields

_SLACK: Final = 1e-6  # tolerance for rounding of fractional timesteps
_TABLE_ENTRIES: Final = 2_000_000  # limit on the search for a number of steps, about one second


def check_timesteps(grid: Grid) -> Grid:
    """Returns `grid`; raises ValueError if a timestep lies outside the noise table, or a time outside flow time."""
    schedule = grid.schedule
    if isinstance(schedule, VPDiscrete):
        first, last, allowed = float(grid.timestep[0]), float(grid.timestep[-1]), schedule.t_max
        where = f"the noise table has 0 to {allowed:g}"
    elif isinstance(schedule, RectifiedFlow):
        first, last, allowed = float(grid.t[0]), float(grid.t[-1]), 1.0
        where = "flow time goes from 1 to 0"
    else:
        return grid
    if first > allowed + _SLACK or last < -_SLACK:
        raise ValueError(f"timesteps from {first:g} to {last:g}, but {where}")
    return grid


def class_grid(fields: Fields, steps: int) -> Grid:
    """Returns the grid of a scheduler class for a number of steps.

    Raises:
        ValueError: if the class has no such grid. If fewer steps have one, the message names the next smaller number.
    """
    try:
        return check_timesteps(fields.cls.grid(fields, steps))
    except ValueError as error:
        # Some configs have no grid of one step, because it would start where it ends.
        if not any(_has_grid(fields, few) for few in range(1, min(steps, 4))):
            raise
        fewer = _largest_below(fields, steps)
        hint = "only far fewer work" if fewer is None else f"the next smaller number that works is {fewer}"
        raise ValueError(
            f"{steps} steps are too many for {fields.cls.name} with this config ({error}); {hint}"
        ) from error


def _largest_below(fields: Fields, steps: int) -> int | None:
    """Returns the largest number of steps below `steps` that has a grid, or None if the search would be too long."""
    size = fields.get("num_train_timesteps") or steps
    most = min(steps - 1, size)
    tried = range(most, max(0, most - _TABLE_ENTRIES // size), -1)
    return next((count for count in tried if _has_grid(fields, count)), None)


def _has_grid(fields: Fields, steps: int) -> bool:
    """Whether a scheduler class has a grid of `steps` steps."""
    try:
        check_timesteps(fields.cls.grid(fields, steps))
    except ValueError:
        return False
    return True
