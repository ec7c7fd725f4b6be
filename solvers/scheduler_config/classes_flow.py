"""Scheduler classes of the Hub that sample rectified flow."""

import math
from dataclasses import replace
from typing import Final

from ..spacing import RAMPS
from .common import RAMP_FLAGS, always, no_options
from .fields import SchedulerClass
from .grids_flow import flow_grid, flow_table_grid

FLOW_MATCH_EULER: Final = SchedulerClass(
    name="FlowMatchEulerDiscreteScheduler",
    defaults={
        "num_train_timesteps": 1000,
        "prediction_type": "flow_prediction",
        "shift": 1.0,
        "use_dynamic_shifting": False,
        "time_shift_type": "exponential",
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "shift_terminal": None,
        "sigmas_from_table": False,  # no published field: whether the pipeline leaves the sigmas to the scheduler
        **RAMP_FLAGS,
        "stochastic_sampling": False,
    },
    fixed={"invert_sigmas": (False,)},
    grids=("linspace", *RAMPS),
    grid=lambda fields, steps: (flow_table_grid if fields["sigmas_from_table"] else flow_grid)(fields, steps),
    flow=True,
    # Stochastic sampling replaces all noise at every step.
    solver=lambda fields: "euler-ancestral" if fields["stochastic_sampling"] else "euler",
    options=lambda fields: {"eta": math.inf} if fields["stochastic_sampling"] else {},
)


FLOW_MATCH_HEUN: Final = SchedulerClass(
    name="FlowMatchHeunDiscreteScheduler",
    defaults={"num_train_timesteps": 1000, "prediction_type": "flow_prediction", "shift": 1.0},
    fixed={},
    grids=("linspace", *RAMPS),
    grid=flow_table_grid,
    solver=always("heun"),
    options=no_options,
    flow=True,
)
FLOW_MATCH_LCM: Final = replace(
    FLOW_MATCH_EULER,
    name="FlowMatchLCMScheduler",
    defaults={key: value for key, value in FLOW_MATCH_EULER.defaults.items() if key != "stochastic_sampling"},
    # Scale factors enlarge the image from step to step, which needs states of several sizes.
    fixed={"invert_sigmas": (False,), "scale_factors": (None, [])},
    solver=always("lcm"),
    options=no_options,
    unused={"upscale_mode": "it belongs to scale_factors"},
)

FLOW_CLASSES: Final = (FLOW_MATCH_EULER, FLOW_MATCH_HEUN, FLOW_MATCH_LCM)
