"""Grids whose noise levels are made by a rule of `LEVEL_RULES` from those of training."""

import math
from dataclasses import replace
from typing import Final

import numpy as np

from ..grid import Grid
from ..level_tables import TABLES
from ..levels import named_levels
from ..schedule import EDM, RectifiedFlow, Schedule
from ..spacing import Row, shift_time
from ..vp_discrete import VPDiscrete
from .fields import Fields
from .grids import explicit_grid
from .grids_flow import flow_shift
from .steps import check_timesteps

_ALIKE: Final = 0.05  # largest difference of the logarithms of two noise levels that are taken for the same
_EDM_LEVELS: Final = 1000  # of a schedule without a table


def named_grid(fields: Fields, name: str, steps: int) -> Grid:
    """Returns the grid of a rule in `LEVEL_RULES`; the network gets the timesteps of the levels.

    Args:
        fields: the config's fields.
        name: the rule.
        steps: number of steps.

    Raises:
        ValueError: if the rule does not fit the config's schedule, or has too few levels for the steps.
    """
    schedule = fields.cls.grid(fields, 2).schedule
    trained = _training_levels(fields, schedule)
    levels = named_levels(name, trained, steps)
    if name in TABLES:
        _check_table(name, levels[0], trained[-1], schedule)
    if fields.cls.explicit is None:
        return check_timesteps(explicit_grid(fields, isinstance(schedule, RectifiedFlow), None, levels))
    # The class's own scale is that of its highest level, where the rule need not begin.
    return replace(fields.cls.explicit(fields, None, levels.tolist()), start_scale=math.hypot(levels[0], 1.0))


def _check_table(name: str, first: float, trained: float, schedule: Schedule) -> None:
    """Raises ValueError unless a table begins at the highest level that the network was trained with."""
    if isinstance(schedule, RectifiedFlow):
        raise ValueError(
            f"grid {name!r} is a table of sigma/alpha, and this config samples flow time: choose another grid"
        )
    if abs(math.log(first / trained)) > _ALIKE:
        raise ValueError(
            f"grid {name!r} begins at sigma/alpha = {first:g}, and this network was trained up to {trained:g}: it is a "
            "table for another network, choose another grid"
        )


def _training_levels(fields: Fields, schedule: Schedule) -> Row:
    """The noise levels of training, rising: sigma/alpha, or flow time."""
    if isinstance(schedule, RectifiedFlow):
        size = fields["num_train_timesteps"]
        shift = flow_shift(fields, "shift" if "shift" in fields.values else "flow_shift")
        return shift_time(np.arange(1, size + 1) / size, shift)
    if isinstance(schedule, VPDiscrete):
        table = schedule.alphas_cumprod.numpy()
        ratios: Row = np.sqrt((1 - table) / table)
        return ratios
    if isinstance(schedule, EDM):
        return np.exp(np.linspace(math.log(schedule.sigma_min), math.log(schedule.sigma_max), _EDM_LEVELS))
    raise ValueError(f"grids by rules of noise levels are not defined for {fields.cls.name}; leave grid out")
