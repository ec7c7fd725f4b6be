"""Grids of scheduler classes that are made of noise levels, and of those with a schedule of their own."""

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
    """Returns levels from sigma_max to sigma_min, then 0 unless `final_sigmas_type` is "sigma_min".

    The start is noise times sqrt(sigma_max^2 + 1) for any sigma_data, as in Diffusers.
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
    """Returns the grid through falling sigmas (N+1,); the last may be 0."""
    return Grid.from_t(schedule, levels, start_scale=math.hypot(schedule.sigma_max, 1.0))


def edm_schedule(fields: Fields) -> EDM:
    """Returns the EDM schedule of a config."""
    return EDM(float(fields["sigma_min"]), float(fields["sigma_max"]), float(fields["sigma_data"]))


def explicit_edm_grid(fields: Fields, timesteps: Sequence[float] | None, sigmas: Sequence[float] | None) -> Grid:
    """Returns the grid of a user's sigmas (N+1,), or of timesteps ln(sigma)/4 (N,), continued to clean data."""
    if sigmas is None:
        sigmas = [*(math.exp(4 * float(t)) for t in _given(timesteps)), 0.0]
    return edm_points(edm_schedule(fields), sigmas)


def _given(timesteps: Sequence[float] | None) -> Sequence[float]:
    """Returns the timesteps, or none."""
    return () if timesteps is None else timesteps


@dataclass(frozen=True)
class LogTimestep:
    """Maps a time t to the timestep that sigma-space samplers pass to the network, interpolated in log(sigma/alpha).

    Attributes:
        schedule: the noise table.
    """

    schedule: VPDiscrete

    def __call__(self, t: float) -> float:
        """Returns the timestep at time t."""
        ratio = self.schedule.sigma(t) / self.schedule.alpha(t)
        return float(self.schedule.log_interpolated_timestep(ratio))


@dataclass(frozen=True)
class WholeTimestep:
    """Maps flow time t to the timestep of a table of `size` entries, truncated to an integer.

    Attributes:
        size: number of table entries.
    """

    size: int

    def __call__(self, t: float) -> float:
        """Returns the timestep at flow time t."""
        return float(math.trunc(t * self.size))


def two_stage_grid(fields: Fields, steps: int, *, rounded: bool) -> Grid:
    """Returns Euler's grid for samplers that also evaluate between its points.

    Args:
        fields: the config's fields.
        steps: number of steps.
        rounded: round the timesteps of a Karras ramp at the points, but not between them.
    """
    grid = euler_grid(fields.replace(final_sigmas_type="zero"), steps)
    assert isinstance(grid.schedule, VPDiscrete)
    timesteps = torch.round(grid.timestep) if rounded and chosen_ramp(fields) == "karras" else grid.timestep
    return replace(grid, timestep=timesteps, between=LogTimestep(grid.schedule))


def sa_grid(fields: Fields, steps: int) -> Grid:
    """Returns SA-Solver's grid: DPM-Solver's, but it ends at the table's first entry, or a ramp at its last level."""
    grid = dpm_grid(fields.replace(final_sigmas_type="sigma_min"), steps, flow_stays=True)
    if not fields["use_flow_sigmas"]:
        return grid
    return replace(grid, between=WholeTimestep(fields["num_train_timesteps"]))


def ipndm_grid(fields: Fields, steps: int) -> Grid:
    """Returns iPNDM's grid: sigma = sin^2(pi s / 2) at equally spaced s from 1 to 0, on the cosine schedule."""
    sigma = np.sin(np.pi / 2 * np.linspace(1, 0, steps + 1)) ** 2
    return Grid.from_t(CosineVP(), np.arcsin(sigma) / (np.pi / 2))


def explicit_cosine_grid(fields: Fields, timesteps: Sequence[float] | None, sigmas: Sequence[float] | None) -> Grid:
    """Returns the grid of a user's sigma/alpha (N+1,), or of timesteps from 1 to 0 (N,), continued to clean data."""
    if sigmas is None:
        return Grid.from_t(CosineVP(), [*_given(timesteps), 0.0])
    return Grid.from_sigma_ve(CosineVP(), np.asarray(sigmas, dtype=np.float64))
