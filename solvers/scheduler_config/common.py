"""Fields and helpers that the tables of scheduler classes share."""

from collections.abc import Callable
from typing import Any, Final

from ..spacing import RAMPS, SPACINGS
from .fields import Fields

# The noise table and its timesteps, with the defaults that most classes have.
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


def always(name: str) -> Callable[[Fields], str]:
    """A rule that names the same solver whatever the fields."""
    return lambda fields: name


def no_options(fields: Fields) -> dict[str, Any]:
    return {}




def chosen_ramp(fields: Fields) -> str | None:
    """The rule of sigmas that a config asks for, if any. Raises ValueError for more than one."""
    flags = {rule: "use_lu_lambdas" if rule == "lu" else f"use_{rule}_sigmas" for rule in RAMPS}
    chosen = [rule for rule, flag in flags.items() if fields.get(flag)]
    if len(chosen) > 1:
        raise ValueError(f"the scheduler config asks for more than one rule of sigmas: {', '.join(chosen)}")
    return chosen[0] if chosen else None


def ends_clean(fields: Fields) -> bool:
    return fields.choice("final_sigmas_type", ("zero", "sigma_min")) == "zero"
