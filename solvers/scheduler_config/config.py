"""From a scheduler_config.json of the Hub to a solver over a grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base import Solver
from ..grid import Grid
from ..levels import LEVEL_RULES
from ..noise import NoiseSource
from ..prediction import PREDICTIONS, Prediction
from ..registry import choose_solver, draws_noise, make_solver
from ..schedule import Schedule
from ..spacing import SPACINGS, dynamic_mu
from .catalogue import REMEDY, class_of_solver, read_class
from .fields import Fields, SchedulerClass
from .grids import explicit_grid
from .grids_named import named_grid
from .steps import check_timesteps, class_grid


@dataclass(frozen=True)
class SolverSetup:
    """Everything that a scheduler config determines.

    Attributes:
        solver: the solver over `grid`.
        prediction: what the network predicts.
        schedule: the noise schedule.
        grid: the points that the trajectory visits.
    """

    solver: Solver
    prediction: Prediction
    schedule: Schedule
    grid: Grid


def from_scheduler_config(
    config: Mapping[str, Any],
    steps: int,
    solver: str | None = None,
    grid: str | Grid | None = None,
    *,
    image_tokens: int | None = None,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    noise: NoiseSource | None = None,
) -> SolverSetup:
    """Builds schedule, grid and solver from a scheduler config of any class in `CLASSES` or `BORROWED`.

    Fields without effect are ignored silently; `check_scheduler_config` lists them.

    Args:
        config: the content of a `scheduler_config.json`.
        steps: number of steps, at least 1.
        solver: name of a solver, with its published defaults for fields that the config omits; None selects the
            config's own.
        grid: name of a spacing, sigma ramp or rule of levels, or a grid of `steps` steps, used as it is; None selects
            the config's own.
        image_tokens: number of image tokens, needed if the config shifts flow time by resolution.
        timesteps: (steps,), timesteps in place of the config's rule.
        sigmas: (steps + 1,), sigma/alpha or flow time in place of the config's rule.
        noise: noise source of stochastic solvers; ignored by others.

    Returns:
        The setup.

    Raises:
        ValueError: if the class, solver or grid is unknown, if the class's own sampler is not supported and no solver
            is named, if the value of a field is not supported (the message names it), if `steps` is below 1, or if the
            timesteps leave the noise table.
    """
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, got steps={steps}")
    config, own, _ = read_class(config)
    if solver is None and own.no_sampler is not None:
        raise ValueError(
            f"the sampler of {own.name} is not supported: {own.no_sampler}; name a solver (solver='euler', ...), "
            f"or {REMEDY}"
        )
    flow = own.flow or (bool(config.get("use_flow_sigmas")) and "use_flow_sigmas" in own.defaults)
    named = own if solver is None else class_of_solver(solver)
    bound = flow or own.explicit is not None
    fields = _with_own_table(Fields.resolve(config, own if bound else named), config, own)
    points = _grid(fields, steps, grid, image_tokens, timesteps, sigmas, flow)
    if isinstance(grid, str):
        fields = _with_grid(fields, grid)
    prediction = _prediction(fields)
    if solver is None:
        name, options = named.solver(fields), named.options(fields)
    else:
        # A class with a schedule of its own has no options for solvers of other classes.
        name, options = solver, {} if bound else named.options(fields)
        written = choose_solver(solver).settings
        options = {key: value for key, value in options.items() if key != "solver_order" and key not in written}
    if draws_noise(name):
        options = {**options, "noise": noise}
    return SolverSetup(make_solver(name, points, **options), prediction, points.schedule, points)


def read_schedule(config: Mapping[str, Any]) -> tuple[Schedule, Prediction]:
    """Reads the schedule and the prediction type of a scheduler config, whether or not its sampler is supported.

    Args:
        config: the content of a `scheduler_config.json`.

    Returns:
        The schedule and what the network predicts.

    Raises:
        ValueError: if they cannot be read; the message names the field or class.
    """
    config, own, _ = read_class(config)
    fields = Fields.resolve(config, own, sampler=False)
    return _shortest_grid(fields).schedule, _prediction(fields)


def _with_own_table(fields: Fields, config: Mapping[str, Any], own: SchedulerClass) -> Fields:
    """Adds to the fields of a named solver's class those that only the config's class defines for the noise table."""
    if "snr_shift_scale" not in own.defaults:
        return fields
    return fields.replace(snr_shift_scale=Fields.resolve(config, own, sampler=False)["snr_shift_scale"])


def _shortest_grid(fields: Fields) -> Grid:
    """Returns a grid of two steps, or of one if the config allows no more."""
    fields = fields.replace(mu=1.0)  # any value: mu moves times, not the schedule
    try:
        return fields.cls.grid(fields, 2)
    except ValueError:
        return fields.cls.grid(fields, 1)


def _prediction(fields: Fields) -> Prediction:
    """Returns what the network predicts."""
    if fields.cls.prediction is not None:
        return fields.cls.prediction(fields)
    return fields.choice("prediction_type", PREDICTIONS)


def _grid(
    fields: Fields,
    steps: int,
    name: str | Grid | None,
    image_tokens: int | None,
    timesteps: Sequence[float] | None,
    sigmas: Sequence[float] | None,
    flow: bool,
) -> Grid:
    """Returns the grid given by name, object, timesteps or sigmas, or else the config's own."""
    if sum(given is not None for given in (name, timesteps, sigmas)) > 1:
        raise ValueError("give at most one of grid, timesteps and sigmas, not several")
    if isinstance(name, Grid):
        if name.n_steps != steps:
            raise ValueError(f"a grid of {name.n_steps} steps was given for {steps} steps; they must be equal")
        return name
    if timesteps is not None or sigmas is not None:
        what, given, needed = ("sigmas", sigmas, steps + 1) if timesteps is None else ("timesteps", timesteps, steps)
        if given is None or len(given) != needed:
            raise ValueError(f"{steps} steps need {needed} {what}, got {0 if given is None else len(given)}")
        if given[0] < given[-1]:
            raise ValueError(f"{what} must fall from noise to data, got {given[0]:g} to {given[-1]:g}")
        if fields.cls.explicit is not None:
            return fields.cls.explicit(fields, timesteps, sigmas)
        return check_timesteps(explicit_grid(fields, flow, timesteps, sigmas))
    if name is not None:
        fields = _with_grid(fields, name)
    if image_tokens is not None and fields.get("use_dynamic_shifting"):
        fields = fields.replace(mu=_mu(fields, image_tokens))
    return named_grid(fields, name, steps) if name in LEVEL_RULES else class_grid(fields, steps)


def _with_grid(fields: Fields, grid: str) -> Fields:
    """Returns the fields with the named spacing, ramp or rule of levels selected."""
    known = (*fields.cls.grids, *LEVEL_RULES)
    if grid in LEVEL_RULES:
        return fields
    if grid not in known:
        raise ValueError(f"unknown grid {grid!r}; known for {fields.cls.name} are {', '.join(known)}")
    rules = {f"use_{rule}_sigmas": rule == grid for rule in ("karras", "exponential", "beta")}
    chosen = {**rules, "use_lu_lambdas": grid == "lu", "named_grid": grid}
    return fields.replace(**chosen, **({"timestep_spacing": grid} if grid in SPACINGS else {}))


def _mu(fields: Fields, tokens: int) -> float:
    """Returns mu of a resolution-dependent shift."""
    keys = ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len")
    given = [fields.get(key) for key in keys]
    return dynamic_mu(tokens, *given) if None not in given else dynamic_mu(tokens)
