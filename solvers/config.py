"""From a scheduler_config.json of the Hub to a solver over a grid."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .base import Solver
from .config_classes import (
    CLASSES,
    DDIM,
    DEIS_MULTISTEP,
    DPM_MULTISTEP,
    DPM_SINGLESTEP,
    EULER,
    EULER_ANCESTRAL,
    FLOW_MATCH_EULER,
    HEUN,
    PNDM,
    UNIPC,
)
from .config_classes_sigma import DPM_SDE, KDPM2_ANCESTRAL, KDPM2_DISCRETE, LMS, SA_SOLVER
from .config_fields import Fields, SchedulerClass, refuse_unknown
from .config_grids import explicit_grid
from .grid import Grid
from .noise import NoiseSource
from .prediction import PREDICTIONS, Prediction
from .registry import draws_noise, known_solver, make_solver
from .schedule import Schedule
from .spacing import SPACINGS, dynamic_mu

# A solver asked for by name takes, for all that the config does not write out, the defaults of the scheduler class
# it is published in; solvers published in none take Euler's.
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
    "kdpm2": KDPM2_DISCRETE,
    "kdpm2-ancestral": KDPM2_ANCESTRAL,
    "lms": LMS,
    "dpmpp-sde": DPM_SDE,
    "sa-solver": SA_SOLVER,
    "plms": PNDM,
    "pndm": PNDM,
}


@dataclass(frozen=True)
class SolverSetup:
    """What a scheduler config stands for: the solver over its grid, the schedule, and what the network predicts."""

    solver: Solver
    prediction: Prediction
    schedule: Schedule
    grid: Grid


def from_scheduler_config(
    config: Mapping[str, Any],
    steps: int,
    solver: str | None = None,
    grid: str | None = None,
    *,
    image_tokens: int | None = None,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    noise: NoiseSource | None = None,
) -> SolverSetup:
    """The setup of a scheduler config of any class in `CLASSES`, for `steps` steps.

    `solver` None takes the config's own, else what that name stands for, with its published defaults for all that the
    config does not write out. `grid` None takes the config's own, else a spacing or a rule of sigmas by name.
    `image_tokens` is the number of image tokens where the config shifts flow time by resolution. `timesteps` (steps,)
    or `sigmas` (steps + 1,), sigma/alpha or flow time, are used in place of the config's rule. `noise` is the source
    of stochastic solvers; others ignore it.
    Raises ValueError for an unknown class, solver or grid, for a field whose value is not supported (names it) and for
    fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, got steps={steps}")
    own = _scheduler_class(config)
    refuse_unknown(config, CLASSES.values())
    flow = own is FLOW_MATCH_EULER or bool(config.get("use_flow_sigmas"))
    named = own if solver is None else _CLASS_OF_SOLVER.get(known_solver(solver), EULER)
    bound = flow or own.explicit is not None
    fields = Fields.resolve(config, own if bound else named)
    points = _grid(fields, steps, grid, image_tokens, timesteps, sigmas, flow)
    if grid is not None:
        fields = _with_grid(fields, grid)
    prediction = _prediction(fields)
    if solver is None:
        name, options = named.solver(fields), named.options(fields)
    else:
        # On a schedule of its own the config's class says nothing about a solver of another class.
        name, options = solver, {} if bound else named.options(fields)
        options.pop("solver_order", None)
    if draws_noise(name):
        options = {**options, "noise": noise}
    return SolverSetup(make_solver(name, points, **options), prediction, points.schedule, points)


def _prediction(fields: Fields) -> Prediction:
    if fields.cls.prediction is not None:
        return fields.cls.prediction(fields)
    return fields.choice("prediction_type", PREDICTIONS)


def _scheduler_class(config: Mapping[str, Any]) -> SchedulerClass:
    name = config.get("_class_name")
    if not isinstance(name, str) or name not in CLASSES:
        raise ValueError(
            f"the scheduler config names class {reprlib.repr(name)}; known are {', '.join(sorted(CLASSES))}"
        )
    return CLASSES[name]


def _grid(
    fields: Fields,
    steps: int,
    name: str | None,
    image_tokens: int | None,
    timesteps: Sequence[float] | None,
    sigmas: Sequence[float] | None,
    flow: bool,
) -> Grid:
    if sum(given is not None for given in (name, timesteps, sigmas)) > 1:
        raise ValueError("give one of grid, timesteps and sigmas, not several")
    if timesteps is not None or sigmas is not None:
        what, given, wanted = ("sigmas", sigmas, steps + 1) if timesteps is None else ("timesteps", timesteps, steps)
        if given is None or len(given) != wanted:
            raise ValueError(f"{steps} steps need {wanted} {what}, got {0 if given is None else len(given)}")
        if fields.cls.explicit is not None:
            return fields.cls.explicit(fields, timesteps, sigmas)
        return explicit_grid(fields, flow, timesteps, sigmas)
    if name is not None:
        fields = _with_grid(fields, name)
    if image_tokens is not None and fields.get("use_dynamic_shifting"):
        fields = fields.replace(mu=_mu(fields, image_tokens))
    return fields.cls.grid(fields, steps)


def _with_grid(fields: Fields, grid: str) -> Fields:
    known = fields.cls.grids
    if grid not in known:
        raise ValueError(f"unknown grid {grid!r}; known for {fields.cls.name} are {', '.join(known)}")
    rules = {f"use_{rule}_sigmas": rule == grid for rule in ("karras", "exponential", "beta")}
    chosen = {**rules, "use_lu_lambdas": grid == "lu"}
    return fields.replace(**chosen, **({"timestep_spacing": grid} if grid in SPACINGS else {}))


def _mu(fields: Fields, tokens: int) -> float:
    keys = ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len")
    given = [fields.get(key) for key in keys]
    return dynamic_mu(tokens, *given) if None not in given else dynamic_mu(tokens)
