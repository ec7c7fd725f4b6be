"""Grids of the scheduler classes that are made of noise levels, and of those with a schedule of their own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..grid import Grid
from ..schedule import EDM, CosineVP
from ..spacing import Row, karras, ramp
from ..vp_discrete import VPDiscrete
from .common import chosen_ramp
from .fields import Fields
from .grids import dpm_grid, euler_grid

_EDM_RULES = ("karras", "exponential")


def edm_grid(fields: Fields, steps: int) -> Grid:
    """Levels from sigma_max to sigma_min, then 0; with `final_sigmas_type` "sigma_min" the last level is the end.

    The start is noise times sqrt(sigma_max^2 + 1), whatever sigma_data is, as Diffusers has it.
    """
    schedule = edm_schedule(fields)
    rule = chosen_ramp(fields) or fields.choice("sigma_schedule", _EDM_RULES)
    high, low = schedule.sigma_max, schedule.sigma_min
    levels = karras(high, low, steps, fields["rho"]) if rule == "karras" else ramp(rule, high, low, steps)
    clean = fields.choice("final_sigmas_type", ("zero", "sigma_min")) == "zero"
    if not clean and steps == 1:
        raise ValueError("final_sigmas_type='sigma_min' in the scheduler config needs at least two steps")
    return edm_points(schedule, [*levels, 0.0] if clean else levels)


def edm_points(schedule: EDM, levels: Sequence[float] | Row) -> Grid:
    """The grid through sigmas (N+1,), falling; the last may be 0."""
    return Grid.from_t(schedule, levels, start_scale=math.hypot(schedule.sigma_max, 1.0))


def edm_schedule(fields: Fields) -> EDM:
    return EDM(float(fields["sigma_min"]), float(fields["sigma_max"]), float(fields["sigma_data"]))


def explicit_edm_grid(fields: Fields, timesteps: Sequence[float] | None, sigmas: Sequence[float] | None) -> Grid:
    """The grid of a user's own sigmas (N+1,), or of timesteps ln(sigma)/4 (N,), which go on to clean data."""
    if sigmas is None:
        sigmas = [*(math.exp(4 * float(t)) for t in _given(timesteps)), 0.0]
    return edm_points(edm_schedule(fields), sigmas)


def _given(timesteps: Sequence[float] | None) -> Sequence[float]:
    return () if timesteps is None else timesteps


@dataclass(frozen=True)
class LogTimestep:
    """The timestep at a time t, interpolated in log(sigma/alpha), that sigma-space samplers tell the network."""

    schedule: VPDiscrete

    def __call__(self, t: float) -> float:
        ratio = self.schedule.sigma(t) / self.schedule.alpha(t)
        return float(self.schedule.log_interpolated_timestep(ratio))


@dataclass(frozen=True)
class WholeTimestep:
    """Flow time t in timesteps of a table of `size`, cut off to whole ones."""

    size: int

    def __call__(self, t: float) -> float:
        return float(math.trunc(t * self.size))


def two_stage_grid(fields: Fields, steps: int, *, rounded: bool) -> Grid:
    """Euler's grid for samplers that also evaluate between its points.

    `rounded` rounds the timesteps of a Karras ramp at the points, though not those between them.
    """
    grid = euler_grid(fields.replace(final_sigmas_type="zero"), steps)
    assert isinstance(grid.schedule, VPDiscrete)
    told = torch.round(grid.timestep) if rounded and chosen_ramp(fields) == "karras" else grid.timestep
    return replace(grid, timestep=told, between=LogTimestep(grid.schedule))


def sa_grid(fields: Fields, steps: int) -> Grid:
    """SA-Solver's: DPM-Solver's, but it ends at the table's first entry, a ramp at its last level."""
    grid = dpm_grid(fields.replace(final_sigmas_type="sigma_min"), steps, flow_stays=True)
    if not fields["use_flow_sigmas"]:
        return grid
    return replace(grid, between=WholeTimestep(fields["num_train_timesteps"]))


def ipndm_grid(fields: Fields, steps: int) -> Grid:
    """iPNDM's: sigma = sin^2(pi s / 2) at even s from 1 to 0, on the cosine schedule."""
    sigma = np.sin(np.pi / 2 * np.linspace(1, 0, steps + 1)) ** 2
    return Grid.from_t(CosineVP(), np.arcsin(sigma) / (np.pi / 2))


def explicit_cosine_grid(fields: Fields, timesteps: Sequence[float] | None, sigmas: Sequence[float] | None) -> Grid:
    """The grid of a user's own sigma/alpha (N+1,), or of timesteps from 1 to 0 (N,), which go on to clean data."""
    if sigmas is None:
        return Grid.from_t(CosineVP(), [*_given(timesteps), 0.0])
    return Grid.from_sigma_ve(CosineVP(), np.asarray(sigmas, dtype=np.float64))
