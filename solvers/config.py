"""From a scheduler_config.json of the Hub to a solver over a grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .base import Solver
from .config_fields import Fields, SchedulerClass, refuse_unknown
from .config_flow import FLOW_MATCH_EULER
from .config_vp import DDIM, DPM_MULTISTEP, EULER, PNDM
from .grid import Grid
from .prediction import PREDICTIONS
from .registry import known_solver, make_solver
from .schedule import Schedule
from .spacing import RAMPS, SPACINGS, dynamic_mu

CLASSES: Final = {cls.name: cls for cls in (DDIM, DPM_MULTISTEP, EULER, FLOW_MATCH_EULER, PNDM)}

# Where a config does not say how timesteps are spaced, a solver asked for by name takes the defaults of the scheduler
# class it is published in; those published in none take Euler's.
_CLASS_OF_SOLVER: Final = {
    "ddim": DDIM,
    "dpmpp1": DPM_MULTISTEP,
    "dpmpp2m": DPM_MULTISTEP,
    "dpmpp3m": DPM_MULTISTEP,
    "plms": PNDM,
    "pndm": PNDM,
}


@dataclass(frozen=True)
class SolverSetup:
    """What a scheduler config stands for: the solver over its grid, the schedule, and what the network predicts."""

    solver: Solver
    prediction: str
    schedule: Schedule
    grid: Grid


def from_scheduler_config(
    config: Mapping[str, Any],
    steps: int,
    solver: str | None = None,
    grid: str | None = None,
    *,
    image_tokens: int | None = None,
) -> SolverSetup:
    """The setup of a scheduler config of any class in `CLASSES`, for `steps` steps.

    `solver` None takes the config's own, else what that name stands for, with its published defaults for all that the
    config does not write out. `grid` None takes the config's own, else a spacing or a ramp of sigmas by name.
    `image_tokens` is the number of image tokens where the config shifts flow time by resolution.
    Raises ValueError for an unknown class, solver or grid, for a field whose value is not supported (names it) and for
    fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, got steps={steps}")
    own = _scheduler_class(config)
    refuse_unknown(config, CLASSES.values())
    cls, name = own, own.solver
    if solver is not None:
        name = known_solver(solver)
        cls = own if own is FLOW_MATCH_EULER else _CLASS_OF_SOLVER.get(name, EULER)
    fields = Fields.resolve(config, cls, inherited=cls is not own)
    if grid is not None:
        fields = _with_grid(fields, grid)
    if image_tokens is not None and cls is FLOW_MATCH_EULER:
        fields = fields.replace(mu=_mu(fields, image_tokens))
    points = cls.grid(fields, steps)
    options = cls.options(fields, solver)
    prediction = fields["prediction_type"]
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction_type={prediction!r} in the scheduler config; known are {', '.join(PREDICTIONS)}")
    return SolverSetup(make_solver(name, points, **options), prediction, points.schedule, points)


def _scheduler_class(config: Mapping[str, Any]) -> SchedulerClass:
    name = config.get("_class_name")
    if name not in CLASSES:
        raise ValueError(f"the scheduler config names class {name!r}; known are {', '.join(sorted(CLASSES))}")
    return CLASSES[name]


def _with_grid(fields: Fields, grid: str) -> Fields:
    if grid not in (*SPACINGS, *RAMPS):
        raise ValueError(f"unknown grid {grid!r}; known are {', '.join((*SPACINGS, *RAMPS))}")
    chosen = {f"use_{rule}_sigmas": rule == grid for rule in RAMPS}
    return fields.replace(**chosen, **({"timestep_spacing": grid} if grid in SPACINGS else {}))


def _mu(fields: Fields, tokens: int) -> float:
    return dynamic_mu(
        tokens,
        fields["base_shift"],
        fields["max_shift"],
        fields["base_image_seq_len"],
        fields["max_image_seq_len"],
    )
