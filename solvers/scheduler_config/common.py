"""Fields and helpers shared by the tables of scheduler classes."""

from collections.abc import Callable
from typing import Any, Final

from ..spacing import RAMPS, SPACINGS
from .fields import Fields

# Fields of the noise table and its timesteps, with the most common defaults.
TABLE: Final = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
    "timestep_spacing": "linspace",
}
RAMP_FLAGS: Final = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
FLOW: Final = {
    "use_flow_sigmas": False,
    "flow_shift": 1.0,
    "use_dynamic_shifting": False,
    "time_shift_type": "exponential",
}
GRIDS: Final = (*SPACINGS, *RAMPS)
CLIPPING: Final = {"clip_sample": True, "clip_sample_range": 1.0}
UNCLIPPED: Final = {"clip_sample": False}
"""Clipping by default is meant for images, not for latent models whose configs, of another class, omit the field."""


def clip(fields: Fields) -> float | None:
    """Returns the clipping range, or None if the config does not clip."""
    return float(fields["clip_sample_range"]) if fields["clip_sample"] else None


def always(name: str) -> Callable[[Fields], str]:
    """Returns a rule that selects the same solver for all fields."""
    return lambda fields: name


def no_options(fields: Fields) -> dict[str, Any]:
    """Returns no solver options."""
    return {}


def chosen_ramp(fields: Fields) -> str | None:
    """Returns the sigma ramp that a config selects, or None; raises ValueError if it selects more than one."""
    flags = {rule: "use_lu_lambdas" if rule == "lu" else f"use_{rule}_sigmas" for rule in RAMPS}
    chosen = [rule for rule, flag in flags.items() if fields.get(flag)]
    if len(chosen) > 1:
        raise ValueError(f"the scheduler config selects more than one sigma ramp: {', '.join(chosen)}")
    return chosen[0] if chosen else None


def ends_clean(fields: Fields) -> bool:
    """Whether the grid ends on clean data (`final_sigmas_type` "zero")."""
    return fields.choice("final_sigmas_type", ("zero", "sigma_min")) == "zero"
