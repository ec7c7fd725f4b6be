"""All scheduler classes by name, and the class that each solver is published in."""

import reprlib
from collections.abc import Mapping
from typing import Any, Final

from ..registry import choose_solver
from .classes import (
    DDIM,
    DEIS_MULTISTEP,
    DPM_MULTISTEP,
    DPM_SINGLESTEP,
    EULER,
    EULER_ANCESTRAL,
    GENERAL_CLASSES,
    HEUN,
    PNDM,
    UNIPC,
)
from .classes_borrowed import BORROWED_CLASSES, NO_SCHEDULE
from .classes_flow import FLOW_CLASSES
from .classes_sigma import DPM_SDE, KDPM2_ANCESTRAL, KDPM2_DISCRETE, LMS, SA_SOLVER, SIGMA_CLASSES
from .classes_stochastic import DDPM, LCM, STOCHASTIC_CLASSES, TCD
from .fields import SchedulerClass
from .stray import ignored_fields, with_prediction

CLASSES: Final = {cls.name: cls for cls in (*GENERAL_CLASSES, *FLOW_CLASSES, *SIGMA_CLASSES, *STOCHASTIC_CLASSES)}
BORROWED: Final = {cls.name: cls for cls in BORROWED_CLASSES}
REMEDY: Final = "load the checkpoint with scheduler=, the config of a known class as a dict, a file or a folder"

# A solver selected by name uses the defaults of the scheduler class it is published in for fields that the config
# omits; solvers published in no class use Euler's.
_CLASS_OF_SOLVER: Final = {
    "ddim": DDIM,
    "dpmpp1": DPM_MULTISTEP,
    "dpmpp2m": DPM_MULTISTEP,
    "dpmpp3m": DPM_MULTISTEP,
    "dpmpp1-sde": DPM_MULTISTEP,
    "dpmpp2m-sde": DPM_MULTISTEP,
    "dpmpp3m-sde": DPM_MULTISTEP,
    "dpm2m": DPM_MULTISTEP,
    "dpm3m": DPM_MULTISTEP,
    "dpmpp2s": DPM_SINGLESTEP,
    "dpmpp3s": DPM_SINGLESTEP,
    "dpmpp2s-sde": DPM_SINGLESTEP,
    "deis": DEIS_MULTISTEP,
    "deis3": DEIS_MULTISTEP,
    "unipc1": UNIPC,
    "unipc": UNIPC,
    "unipc3": UNIPC,
    "heun": HEUN,
    "euler-ancestral": EULER_ANCESTRAL,
    "plms": PNDM,
    "pndm": PNDM,
    "kdpm2": KDPM2_DISCRETE,
    "kdpm2-ancestral": KDPM2_ANCESTRAL,
    "lms": LMS,
    "dpmpp-sde": DPM_SDE,
    "sa-solver": SA_SOLVER,
    "ddpm": DDPM,
    "lcm": LCM,
    "tcd": TCD,
}


def class_of_solver(solver: str) -> SchedulerClass:
    """Returns the scheduler class that a solver is published in; raises ValueError if the solver is unknown.

    Args:
        solver: its name, with settings if there are any.
    """
    return _CLASS_OF_SOLVER.get(choose_solver(solver).name, EULER)


def class_of_config(config: Mapping[str, Any]) -> SchedulerClass:
    """Returns the scheduler class that a config names; raises ValueError, with a remedy, if it is unknown."""
    name = config.get("_class_name")
    if isinstance(name, str) and name in NO_SCHEDULE:
        raise ValueError(f"{name} cannot be read: {NO_SCHEDULE[name]}; {REMEDY}")
    known = {**CLASSES, **BORROWED}
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"the scheduler config names class {reprlib.repr(name)}; known are {', '.join(sorted(known))}; {REMEDY}"
        )
    return known[name]


def read_class(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], SchedulerClass, dict[str, str]]:
    """Reads the class of a scheduler config and checks that every field is known.

    Returns:
        The config with fields of early versions translated, its class, and the ignored fields with the reasons.

    Raises:
        ValueError: if the class or a field is not supported.
    """
    own = class_of_config(config)
    config = with_prediction(config)
    return config, own, ignored_fields(config, own, (*CLASSES.values(), *BORROWED.values()))
