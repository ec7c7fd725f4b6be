"""Grids as the scheduler classes of the Hub lay them, each family of classes by its own conventions."""

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
    """The noise table of a config, computed in float32 as it was when the network was trained.

    `snr_shift_scale` divides the signal-to-noise ratio (CogVideoX, arXiv 2408.06072). Where the config asks for zero
    terminal SNR, `last` replaces the 0 that alphas_cumprod ends on.
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


def _closed(schedule: VPDiscrete, points: Row, told: Row, clean: bool, scale: float | None) -> Grid:
    """The grid that goes on to clean data (t = -1), or to the table's first entry (t = 0).

    A last point that is there already takes no step: published schedulers spend an evaluation on it, without effect.
    """
    end = -1.0 if clean else 0.0
    if len(points) > 1 and points[-1] <= end + 1e-9:
        points, told = points[:-1], told[:-1]
    return Grid.from_t(schedule, np.append(points, end), told, scale)


def _table_ratios(schedule: VPDiscrete) -> Row:
    """sigma/alpha of the table's entries."""
    table = schedule.alphas_cumprod.numpy()
    ratios: Row = np.sqrt((1 - table) / table)
    return ratios


def _ramped(schedule: VPDiscrete, levels: Row) -> tuple[Row, Row]:
    """Times of levels of sigma/alpha, and the fractional timesteps that the network is told."""
    ratios = torch.as_tensor(levels)
    return schedule.t_from_log_snr(-ratios.log()).numpy(), schedule.log_interpolated_timestep(ratios).numpy()


def _ramp_ends(fields: Fields, ratios: Row) -> tuple[float, float]:
    """The largest and smallest level of a ramp: `sigma_max` and `sigma_min` where given, else those of `ratios`."""
    high, low = fields.get("sigma_max"), fields.get("sigma_min")
    return float(ratios.max() if high is None else high), float(ratios.min() if low is None else low)


def euler_grid(fields: Fields, steps: int) -> Grid:
    """Euler's and Heun's: fractional timesteps, also where a ramp runs between the sigmas of the spaced ones.

    The published start is noise times sigma/alpha, or with leading spacing times its root sum square with 1.
    """
    schedule = vp_schedule(fields)
    told = spaced_timesteps(fields["timestep_spacing"], steps, fields["num_train_timesteps"], fields["steps_offset"])
    points, rule = told, chosen_ramp(fields)
    if rule is not None:
        ratios = np.interp(told, np.arange(len(schedule.alphas_cumprod)), _table_ratios(schedule))
        points, told = _ramped(schedule, ramp(rule, *_ramp_ends(fields, ratios), steps))
    scale = 1.0 if fields["timestep_spacing"] == "leading" else None
    return _closed(schedule, points, told, ends_clean(fields), scale)


def ddim_grid(fields: Fields, steps: int) -> Grid:
    """DDIM's and PNDM's: whole timesteps, each step ending where the next one starts."""
    ends = "zero" if fields["set_alpha_to_one"] else "sigma_min"
    if chosen_ramp(fields) is not None:
        return euler_grid(fields.replace(final_sigmas_type=ends), steps)
    schedule = vp_schedule(fields, last=1e-20)
    told = spaced_timesteps(fields["timestep_spacing"], steps, fields["num_train_timesteps"], fields["steps_offset"])
    told = np.round(told)
    return _closed(schedule, told, told, ends == "zero", 1.0)


def consistency_grid(fields: Fields, steps: int, *, clean: bool) -> Grid:
    """LCM's and TCD's: timesteps of the distillation, to clean data or (`clean` False) to the table's first entry."""
    if fields.get("named_grid"):
        return ddim_grid(fields.replace(set_alpha_to_one=clean), steps)
    schedule = vp_schedule(fields, last=1e-20)
    told = distilled_timesteps(steps, fields["num_train_timesteps"], fields["original_inference_steps"])
    return _closed(schedule, told, told, clean, 1.0)


def dpm_grid(
    fields: Fields, steps: int, *, rounded: bool = True, flow_from_one: bool = False, flow_stays: bool = False
) -> Grid:
    """DPM-Solver's, UniPC's and DEIS's: whole timesteps; a ramp runs over the whole table.

    Fractional timesteps of a Karras ramp are rounded, or with `rounded` False cut off as those of other ramps are.
    """
    if fields["use_flow_sigmas"]:
        return dpm_flow_grid(fields, steps, from_one=flow_from_one, stays=flow_stays)
    schedule, rule = vp_schedule(fields), chosen_ramp(fields)
    if rule is None:
        told = points = _dpm_timesteps(fields, schedule, steps)
    else:
        points, told = _ramped(schedule, ramp(rule, *_ramp_ends(fields, _table_ratios(schedule)), steps))
        told = np.round(told) if rounded and rule in ("karras", "lu") else np.trunc(told)
    return _closed(schedule, points, told, ends_clean(fields), 1.0)


def _dpm_timesteps(fields: Fields, schedule: VPDiscrete, steps: int) -> Row:
    """Timesteps of a rule for one step more, without its last, so that the data end itself is not among them."""
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
    """The grid of a user's own points, used as they are.

    `timesteps` (N,) go on to clean data. `sigmas` (N+1,) are sigma/alpha, of flow models flow time; the last may be 0.
    """
    if flow:
        t = np.asarray(sigmas, float) if sigmas is not None else np.append(timesteps, 0) / fields["num_train_timesteps"]
        return Grid.from_t(RectifiedFlow(float(fields["num_train_timesteps"])), t)
    schedule = vp_schedule(fields)
    if timesteps is not None:
        told = np.asarray(timesteps, dtype=np.float64)
        return Grid.from_t(schedule, np.append(told, -1.0), told)
    levels = np.asarray(sigmas, dtype=np.float64)
    told = schedule.log_interpolated_timestep(torch.as_tensor(levels[:-1])).numpy()
    return Grid.from_sigma_ve(schedule, levels, told)
