"""Grids of flow time, for scheduler classes that sample rectified flow."""

import math

import numpy as np

from ..grid import Grid
from ..schedule import RectifiedFlow
from ..spacing import Row, ramp, shift_time, stretch_time
from .common import chosen_ramp, ends_clean
from .fields import Fields


def flow_shift(fields: Fields, key: str) -> float:
    """Returns the shift of flow time: the field `key`, or a resolution-dependent shift if the config asks for it."""
    if not fields["use_dynamic_shifting"]:
        return float(fields[key])
    mu = fields.get("mu")
    if mu is None:
        raise ValueError(
            "use_dynamic_shifting=true in the scheduler config: the shift depends on the number of image tokens; "
            "pass image_tokens"
        )
    return math.exp(mu) if fields["time_shift_type"] == "exponential" else float(mu)


def dpm_flow_grid(fields: Fields, steps: int, *, from_one: bool, stays: bool) -> Grid:
    """Returns the flow-time grid of DPM-Solver classes with `use_flow_sigmas`.

    Args:
        fields: the config's fields.
        steps: number of steps.
        from_one: start at 1 - 1e-6 (UniPC); otherwise one training step below 1.
        stays: if the grid does not end at 0, end it at its last point, which takes no step (UniPC, DEIS).

    Raises:
        ValueError: if a field is not supported in combination with flow time.
    """
    if chosen_ramp(fields) is not None:
        raise ValueError(f"use_flow_sigmas=true with use_{chosen_ramp(fields)}_sigmas=true is not supported")
    size, shift = fields["num_train_timesteps"], flow_shift(fields, "flow_shift")
    if from_one:
        t = shift_time(np.linspace(1, 1 / size, steps + 1)[:-1], shift)
        if fields["shift_terminal"]:
            t = stretch_time(t, fields["shift_terminal"])
        t[0] = min(t[0], 1 - 1e-6)
    else:
        t = shift_time(1 - np.linspace(1, 1 / size, steps + 1), shift)[::-1][:-1]
    timesteps = np.trunc(t * size)
    if ends_clean(fields):
        t = np.append(t, 0.0)
    elif stays and steps > 1:
        timesteps = timesteps[:-1]
    else:
        raise ValueError(
            f"use_flow_sigmas=true with final_sigmas_type='sigma_min' is not supported for {fields.cls.name}"
        )
    return Grid.from_t(RectifiedFlow(float(size)), t, timesteps, 1.0)


def flow_grid(fields: Fields, steps: int) -> Grid:
    """Returns equal steps of flow time from 1, shifted towards noise, then 0, as flow pipelines request them."""
    t = np.linspace(1, 1 / steps, steps)
    if fields.get("timestep_spacing") != "linspace":
        t = shift_time(t, flow_shift(fields, "shift"))
    return _completed(fields, t)


def _completed(fields: Fields, t: Row) -> Grid:
    """Returns the grid of shifted flow times (N,): stretched or replaced by a ramp as the config says, and then 0."""
    if fields.get("shift_terminal"):
        t = stretch_time(t, fields["shift_terminal"])
    rule = chosen_ramp(fields)
    if rule is not None:
        t = ramp(rule, t[0], t[-1], len(t))
    return Grid.from_t(RectifiedFlow(float(fields["num_train_timesteps"])), np.append(t, 0.0))


def flow_table_grid(fields: Fields, steps: int) -> Grid:
    """Returns the flow-time grid of `FlowMatchHeunDiscreteScheduler`, and of others that pipelines give no sigmas.

    It runs from 1 to the shifted first training step, shifted, then to 0; the first training step is shifted twice, as
    published. A shift that depends on the resolution is made once.
    """
    if fields.get("named_grid"):
        return flow_grid(fields.replace(use_dynamic_shifting=False, shift_terminal=None), steps)
    lowest = np.array([1 / fields["num_train_timesteps"]])
    if fields.get("use_dynamic_shifting"):
        shift = flow_shift(fields, "shift")
    else:
        shift = float(fields["shift"])
        lowest = shift_time(lowest, shift)
    return _completed(fields, shift_time(np.linspace(1, float(lowest[0]), steps), shift))
