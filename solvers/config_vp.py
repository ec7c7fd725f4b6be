"""Scheduler classes of variance-preserving models: their fields, and the grids they stand for."""

from typing import Any, Final

import numpy as np
import torch

from .betas import make_betas, zero_terminal_snr
from .config_fields import Fields, SchedulerClass
from .grid import Grid
from .schedule import VPDiscrete
from .spacing import RAMPS, Row, ramp, spaced_timesteps

_TABLE: Final = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
}
_RAMPS: Final = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}


def vp_schedule(fields: Fields, last: float = 2.0**-24) -> VPDiscrete:
    """The noise table of a config, computed in float32 as it was when the network was trained.

    Where the config asks for zero terminal SNR, `last` replaces the 0 that alphas_cumprod ends on.
    """
    trained = fields["trained_betas"]
    if trained is not None:
        betas = torch.as_tensor(trained, dtype=torch.float32)
    else:
        size = fields["num_train_timesteps"]
        betas = make_betas(fields["beta_schedule"], size, fields["beta_start"], fields["beta_end"], torch.float32)
    if not fields.get("rescale_betas_zero_snr"):
        return VPDiscrete(torch.cumprod(1 - betas, 0).double())
    table = torch.cumprod(1 - zero_terminal_snr(betas), 0).double()
    return VPDiscrete(torch.cat((table[:-1], table.new_tensor([last]))))


def _ramp(fields: Fields) -> str | None:
    chosen = [rule for rule in RAMPS if fields.get(f"use_{rule}_sigmas")]
    if len(chosen) > 1:
        raise ValueError(f"the scheduler config asks for more than one rule of sigmas: {', '.join(chosen)}")
    return chosen[0] if chosen else None


def _final_t(fields: Fields) -> float:
    """Where the grid ends: clean data (-1), or the first entry of the table (0)."""
    final = fields["final_sigmas_type"]
    if final not in ("zero", "sigma_min"):
        raise ValueError(f"final_sigmas_type={final!r} in the scheduler config; known are zero, sigma_min")
    return -1.0 if final == "zero" else 0.0


def _closed(schedule: VPDiscrete, points: Row, final: float, told: Row, scale: float | None = None) -> Grid:
    """The grid through `points` and `final`; a last point that is the final one already takes no step."""
    if len(points) > 1 and points[-1] <= final:
        points, told = points[:-1], told[:-1]
    return Grid.from_t(schedule, np.append(points, final), told, scale)


def _ratios(schedule: VPDiscrete) -> Row:
    """sigma/alpha of the table's entries."""
    table = schedule.alphas_cumprod.numpy()
    ratios: Row = np.sqrt((1 - table) / table)
    return ratios


def _euler_grid(fields: Fields, steps: int) -> Grid:
    """Fractional timesteps; a ramp runs between the sigmas of the spaced ones and keeps fractional timesteps too."""
    schedule = vp_schedule(fields)
    told = spaced_timesteps(fields["timestep_spacing"], steps, fields["num_train_timesteps"], fields["steps_offset"])
    points, rule = told, _ramp(fields)
    if rule is not None:
        ratios = np.interp(told, np.arange(len(schedule.alphas_cumprod)), _ratios(schedule))
        ends = [fields.get("sigma_max"), fields.get("sigma_min")]
        high, low = [given if given is not None else end for given, end in zip(ends, ratios[[0, -1]], strict=True)]
        levels = ramp(rule, high, low, steps)
        points = schedule.t_from_log_snr(-torch.as_tensor(levels).log()).numpy()
        told = schedule.log_interpolated_timestep(torch.as_tensor(levels)).numpy()
    # The published start is noise times sigma/alpha, or times its root sum square with 1, in the frame of alpha = 1.
    scale = 1.0 if fields["timestep_spacing"] == "leading" else None
    return _closed(schedule, points, _final_t(fields), told, scale)


def _no_options(fields: Fields, solver: str | None) -> dict[str, Any]:
    return {}


EULER: Final = SchedulerClass(
    name="EulerDiscreteScheduler",
    solver="euler",
    defaults={
        **_TABLE,
        **_RAMPS,
        "timestep_spacing": "linspace",
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
        "sigma_min": None,
        "sigma_max": None,
    },
    fixed={"interpolation_type": ("linear",), "timestep_type": ("discrete",)},
    grid=_euler_grid,
    options=_no_options,
)


def _ddim_grid(fields: Fields, steps: int) -> Grid:
    """Whole timesteps, each step ending at the next one; the last at clean data or at the table's first entry."""
    if _ramp(fields) is not None:
        spaced = fields.replace(final_sigmas_type="zero" if fields["set_alpha_to_one"] else "sigma_min")
        return _euler_grid(spaced, steps)
    schedule = vp_schedule(fields, last=1e-20)
    told = spaced_timesteps(fields["timestep_spacing"], steps, fields["num_train_timesteps"], fields["steps_offset"])
    told = np.round(told)
    return _closed(schedule, told, -1.0 if fields["set_alpha_to_one"] else 0.0, told, 1.0)


DDIM: Final = SchedulerClass(
    name="DDIMScheduler",
    solver="ddim",
    defaults={
        **_TABLE,
        "timestep_spacing": "leading",
        "rescale_betas_zero_snr": False,
        "set_alpha_to_one": True,
    },
    fixed={"clip_sample": (False,), "thresholding": (False,)},
    grid=_ddim_grid,
    options=_no_options,
    required=("clip_sample",),
)

PNDM: Final = SchedulerClass(
    name="PNDMScheduler",
    solver="pndm",
    defaults={**_TABLE, "timestep_spacing": "leading", "set_alpha_to_one": False},
    fixed={"skip_prk_steps": (True,)},
    grid=_ddim_grid,
    options=lambda fields, solver: {"prediction": fields["prediction_type"]},
    required=("skip_prk_steps",),
)


def _dpm_timesteps(fields: Fields, steps: int) -> Row:
    """Whole timesteps of a rule for one step more, without its last, so that the data end itself is not among them."""
    size, spacing = fields["num_train_timesteps"], fields["timestep_spacing"]
    if spacing == "trailing":
        return spaced_timesteps(spacing, steps, size)
    if steps >= size:
        raise ValueError(f"{spacing} spacing needs 1 to {size - 1} steps, got {steps}")
    offset = fields["steps_offset"] if spacing == "leading" else 0
    return np.round(spaced_timesteps(spacing, steps + 1, size, offset))[:-1]


def _dpm_grid(fields: Fields, steps: int) -> Grid:
    """Whole timesteps; a ramp runs over the whole table, and Karras tells the network rounded timesteps."""
    schedule, rule = vp_schedule(fields), _ramp(fields)
    if rule is None:
        told = points = _dpm_timesteps(fields, steps)
    else:
        ratios = _ratios(schedule)
        levels = torch.as_tensor(ramp(rule, ratios[-1], ratios[0], steps))
        points = schedule.t_from_log_snr(-levels.log()).numpy()
        told = schedule.log_interpolated_timestep(levels).numpy()
        told = np.round(told) if rule == "karras" and fields["beta_schedule"] != "squaredcos_cap_v2" else np.trunc(told)
    return _closed(schedule, points, _final_t(fields), told, 1.0)


def _dpm_options(fields: Fields, solver: str | None) -> dict[str, Any]:
    options = {
        "second_order": fields["solver_type"],
        "lower_order_final": fields["lower_order_final"],
        "euler_at_final": fields["euler_at_final"],
    }
    return options if solver else {**options, "solver_order": fields["solver_order"]}


DPM_MULTISTEP: Final = SchedulerClass(
    name="DPMSolverMultistepScheduler",
    solver="dpmpp2m",
    defaults={
        **_TABLE,
        **_RAMPS,
        "timestep_spacing": "linspace",
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
        "solver_order": 2,
        "solver_type": "midpoint",
        "lower_order_final": True,
        "euler_at_final": False,
    },
    fixed={
        "algorithm_type": ("dpmsolver++",),
        "thresholding": (False,),
        "use_lu_lambdas": (False,),
        "use_flow_sigmas": (False,),
        "flow_shift": (1.0,),
        "lambda_min_clipped": (-float("inf"),),
        "variance_type": (None,),
        "use_dynamic_shifting": (False,),
        "time_shift_type": ("exponential",),
    },
    grid=_dpm_grid,
    options=_dpm_options,
)
