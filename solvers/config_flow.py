"""Scheduler classes of rectified-flow models."""

import math
from typing import Final

import numpy as np

from .config_fields import Fields, SchedulerClass
from .grid import Grid
from .schedule import RectifiedFlow
from .spacing import RAMPS, ramp, shift_time


def _flow_grid(fields: Fields, steps: int) -> Grid:
    """Flow time from 1 in even strides, shifted towards noise, then 0."""
    t = np.linspace(1, 1 / steps, steps)
    shift = fields["shift"]
    if fields["use_dynamic_shifting"]:
        if fields.get("mu") is None:
            raise ValueError(
                "use_dynamic_shifting=true in the scheduler config: the shift depends on the number of image tokens, "
                "give image_tokens"
            )
        shift = math.exp(fields["mu"])
    t = shift_time(t, shift)
    chosen = [rule for rule in RAMPS if fields[f"use_{rule}_sigmas"]]
    if len(chosen) > 1:
        raise ValueError(f"the scheduler config asks for more than one rule of sigmas: {', '.join(chosen)}")
    if chosen:
        t = ramp(chosen[0], t[0], t[-1], steps)
    return Grid.from_t(RectifiedFlow(float(fields["num_train_timesteps"])), np.append(t, 0.0))


FLOW_MATCH_EULER: Final = SchedulerClass(
    name="FlowMatchEulerDiscreteScheduler",
    solver="euler",
    defaults={
        "num_train_timesteps": 1000,
        "prediction_type": "flow_prediction",
        "shift": 1.0,
        "use_dynamic_shifting": False,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
    },
    fixed={
        "invert_sigmas": (False,),
        "shift_terminal": (None, 0),
        "time_shift_type": ("exponential",),
        "stochastic_sampling": (False,),
    },
    grid=_flow_grid,
    options=lambda fields, solver: {},
)
