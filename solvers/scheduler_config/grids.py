"""Grids of scheduler classes that sample a noise table, each family of classes by its own conventions."""

import math
from typing import Any

import numpy as np
import torch

from ..betas import make_betas, zero_terminal_snr
from ..grid import Grid
from ..schedule import RectifiedFlow
from ..spacing import Row, distilled_timesteps, ramp, spaced_timesteps
from ..vp_discrete import VPDiscrete
from .common import chosen_ramp, ends_clean
from .fields import Fields
from .grids_flow import dpm_flow_grid


def vp_schedule(fields: Fields, last: float = 2.0**-24) -> VPDiscrete:
    """Returns the noise table of a config, computed in float32 as in training.

    `snr_shift_scale` divides the signal-to-noise ratio (CogVideoX, arXiv 2408.06072).

    Args:
        fields: the config's fields.
        last: replaces the final 0 of alphas_cumprod if the config asks for zero terminal SNR.
    """
    trained = fields["trained_betas"]
    if trained is not None:
        betas = torch.as_tensor(trained, dtype=torch.float32)
    else:
        size = fields["num_train_timesteps"]
        betas = make_betas(fields["beta_schedule"], size, fields["beta_start"], fields["beta_end"], torch.float32)
    shift = fields.get("snr_shift_scale")
    if shift is not None:
        if not shift > 0:
            raise ValueError(f"snr_shift_scale={shift!r} in the scheduler config must be above 0")
        table = torch.cumprod(1 - betas.double(), 0)
        table = table / (shift + (1 - shift) * table)
        betas = 1 - torch.cat((table[:1], table[1:] / table[:-1]))
    if not fields.get("rescale_betas_zero_snr"):
        return VPDiscrete(torch.cumprod(1 - betas, 0).double())
    table = torch.cumprod(1 - zero_terminal_snr(betas), 0).double()
    return VPDiscrete(torch.cat((table[:-1], table.new_tensor([last]))))


def _with_end(schedule: VPDiscrete, points: Row, timesteps: Row, clean: bool, scale: float | None) -> Grid:
    """Returns the grid continued to clean data (t = -1), or with `clean` False to the table's first entry (t = 0).

    A last point that already lies there takes no step: published schedulers spend an evaluation on it, without effect.
    """
    end = -1.0 if clean else 0.0
    if len(points) > 1 and points[-1] <= end + 1e-9:
        points, timesteps = points[:-1], timesteps[:-1]
    return Grid.from_t(schedule, np.append(points, end), timesteps, scale)


def _table_ratios(schedule: VPDiscrete) -> Row:
    """sigma/alpha of the table's entries."""
    table = schedule.alphas_cumprod.numpy()
    ratios: Row = np.sqrt((1 - table) / table)
    return ratios


def _ramped(schedule: VPDiscrete, levels: Row) -> tuple[Row, Row]:
    """Returns the times of sigma/alpha levels, and the network's fractional timesteps there."""
    ratios = torch.as_tensor(levels)
    return schedule.t_from_log_snr(-ratios.log()).numpy(), schedule.log_interpolated_timestep(ratios).numpy()


def _ramp_ends(fields: Fields, ratios: Row) -> tuple[float, float]:
    """Returns the highest and lowest level of a ramp: `sigma_max` and `sigma_min` if given, else those of `ratios`."""
    high, low = fields.get("sigma_max"), fields.get("sigma_min")
    return float(ratios.max() if high is None else high), float(ratios.min() if low is None else low)


def _spaced(fields: Fields, steps: int) -> Row:
    """Timesteps (steps,) by the config's spacing rule."""
    return spaced_timesteps(fields["timestep_spacing"], steps, fields["num_train_timesteps"], fields["steps_offset"])


def euler_grid(fields: Fields, steps: int) -> Grid:
    """Returns the grid of Euler and Heun classes: fractional timesteps, also if a ramp runs between the spaced sigmas.

    The published start is noise times sigma/alpha, or with leading spacing times sqrt((sigma/alpha)^2 + 1).
    """
    schedule = vp_schedule(fields)
    timesteps = _spaced(fields, steps)
    points, rule = timesteps, chosen_ramp(fields)
    if rule is not None:
        ratios = np.interp(timesteps, np.arange(len(schedule.alphas_cumprod)), _table_ratios(schedule))
        points, timesteps = _ramped(schedule, ramp(rule, *_ramp_ends(fields, ratios), steps))
    scale = 1.0 if fields["timestep_spacing"] == "leading" else None
    return _with_end(schedule, points, timesteps, ends_clean(fields), scale)


def ddim_grid(fields: Fields, steps: int) -> Grid:
    """Returns the grid of DDIM and PNDM classes: integer timesteps, each step ending where the next one starts."""
    ends = "zero" if fields["set_alpha_to_one"] else "sigma_min"
    if chosen_ramp(fields) is not None:
        return euler_grid(fields.replace(final_sigmas_type=ends), steps)
    schedule = vp_schedule(fields, last=1e-20)
    timesteps = np.round(_spaced(fields, steps))
    return _with_end(schedule, timesteps, timesteps, ends == "zero", 1.0)


def consistency_grid(fields: Fields, steps: int, *, clean: bool) -> Grid:
    """Returns the grid of LCM and TCD classes: timesteps of the distillation.

    Args:
        fields: the config's fields.
        steps: number of steps.
        clean: end on clean data; otherwise at the table's first entry.
    """
    if fields.get("named_grid"):
        return ddim_grid(fields.replace(set_alpha_to_one=clean), steps)
    schedule = vp_schedule(fields, last=1e-20)
    timesteps = distilled_timesteps(steps, fields["num_train_timesteps"], fields["original_inference_steps"])
    return _with_end(schedule, timesteps, timesteps, clean, 1.0)


def dpm_grid(
    fields: Fields, steps: int, *, rounded: bool = True, flow_from_one: bool = False, flow_stays: bool = False
) -> Grid:
    """Returns the grid of DPM-Solver, UniPC and DEIS classes: integer timesteps; a ramp covers the whole table.

    Args:
        fields: the config's fields.
        steps: number of steps.
        rounded: round fractional timesteps of a Karras or Lu ramp; otherwise truncate them as those of other ramps.
        flow_from_one: see `dpm_flow_grid`, `from_one`.
        flow_stays: see `dpm_flow_grid`, `stays`.
    """
    if fields["use_flow_sigmas"]:
        return dpm_flow_grid(fields, steps, from_one=flow_from_one, stays=flow_stays)
    schedule, rule = vp_schedule(fields), chosen_ramp(fields)
    if rule is None:
        timesteps = points = _dpm_timesteps(fields, schedule, steps)
    else:
        points, timesteps = _ramped(schedule, ramp(rule, *_ramp_ends(fields, _table_ratios(schedule)), steps))
        timesteps = np.round(timesteps) if rounded and rule in ("karras", "lu") else np.trunc(timesteps)
    return _with_end(schedule, points, timesteps, ends_clean(fields), 1.0)


def _dpm_timesteps(fields: Fields, schedule: VPDiscrete, steps: int) -> Row:
    """Returns the timesteps of a spacing rule for one more step, without the last, so that none is at the data end."""
    spacing, size = fields["timestep_spacing"], fields["num_train_timesteps"]
    clipped = fields.get("lambda_min_clipped")
    if clipped is not None and clipped > -math.inf:
        if spacing == "trailing":
            raise ValueError("lambda_min_clipped in the scheduler config is not supported with trailing spacing")
        size = int((-np.log(_table_ratios(schedule)) >= clipped).sum())
    if spacing == "trailing":
        return spaced_timesteps(spacing, steps, size)
    if steps >= size:
        raise ValueError(f"{spacing} spacing needs 1 to {size - 1} steps, got {steps}")
    offset = fields["steps_offset"] if spacing == "leading" else 0
    return np.round(spaced_timesteps(spacing, steps + 1, size, offset))[:-1]


def explicit_grid(fields: Fields, flow: bool, timesteps: Any, sigmas: Any) -> Grid:
    """Returns the grid of a user's own points, used as they are.

    Args:
        fields: the config's fields.
        flow: whether the model samples flow time.
        timesteps: (N,), continued to clean data.
        sigmas: (N+1,), sigma/alpha, for flow models flow time; the last may be 0.
    """
    if flow:
        t = np.asarray(sigmas, float) if sigmas is not None else np.append(timesteps, 0) / fields["num_train_timesteps"]
        return Grid.from_t(RectifiedFlow(float(fields["num_train_timesteps"])), t)
    schedule = vp_schedule(fields)
    if timesteps is not None:
        timesteps = np.asarray(timesteps, dtype=np.float64)
        return Grid.from_t(schedule, np.append(timesteps, -1.0), timesteps)
    levels = np.asarray(sigmas, dtype=np.float64)
    timesteps = schedule.log_interpolated_timestep(torch.as_tensor(levels[:-1])).numpy()
    return Grid.from_sigma_ve(schedule, levels, timesteps)
