"""From a scheduler_config.json of the Hub to a solver over a grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base import Solver
from ..grid import Grid
from ..noise import NoiseSource
from ..prediction import PREDICTIONS, Prediction
from ..registry import draws_noise, make_solver
from ..schedule import Schedule
from ..spacing import SPACINGS, dynamic_mu
from .catalogue import REMEDY, class_of_solver, read_class
from .fields import Fields, SchedulerClass
from .grids import explicit_grid
from .steps import check_timesteps, class_grid


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
    grid: str | Grid | None = None,
    *,
    image_tokens: int | None = None,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    noise: NoiseSource | None = None,
) -> SolverSetup:
    """The setup of a scheduler config of any class in `CLASSES` or `BORROWED`, for `steps` steps.

    Fields that have no effect are ignored without a word; `check_scheduler_config` says which they are.

    Args:
        config: The content of a `scheduler_config.json`.
        steps: The number of steps, at least 1.
        solver: A solver by name, with its published defaults for all that the config does not write out; None takes
            the config's own.
        grid: A spacing or a rule of sigmas by name, or a grid of `steps` steps, used as it is; None takes the config's
            own.
        image_tokens: The number of image tokens, where the config shifts flow time by resolution.
        timesteps: Timesteps (steps,) in place of the config's rule.
        sigmas: sigma/alpha or flow time (steps + 1,) in place of the config's rule.
        noise: The source of stochastic solvers; others ignore it.

    Raises:
        ValueError: For an unknown class, solver or grid, for a class whose own sampler cannot be had where no solver
            is named, for a field whose value is not supported (names it), for fewer than one step, and for a number of
            steps whose timesteps leave the noise table.
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
        # On a schedule of its own the config's class says nothing about a solver of another class.
        name, options = solver, {} if bound else named.options(fields)
        options.pop("solver_order", None)
    if draws_noise(name):
        options = {**options, "noise": noise}
    return SolverSetup(make_solver(name, points, **options), prediction, points.schedule, points)


def read_schedule(config: Mapping[str, Any]) -> tuple[Schedule, Prediction]:
    """The schedule of a scheduler config and what its network predicts, whether or not its sampler can be had.

    Raises ValueError, naming field or class, if they cannot be read.
    """
    config, own, _ = read_class(config)
    fields = Fields.resolve(config, own, sampler=False)
    return _shortest_grid(fields).schedule, _prediction(fields)


def _with_own_table(fields: Fields, config: Mapping[str, Any], own: SchedulerClass) -> Fields:
    """The fields of a named solver's class, with what only the config's own class says of the noise table."""
    if "snr_shift_scale" not in own.defaults:
        return fields
    return fields.replace(snr_shift_scale=Fields.resolve(config, own, sampler=False)["snr_shift_scale"])


def _shortest_grid(fields: Fields) -> Grid:
    """A grid of two steps, or of one where that is all that the config allows."""
    fields = fields.replace(mu=1.0)  # any: it moves times, not the schedule
    try:
        return fields.cls.grid(fields, 2)
    except ValueError:
        return fields.cls.grid(fields, 1)


def _prediction(fields: Fields) -> Prediction:
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
    if sum(given is not None for given in (name, timesteps, sigmas)) > 1:
        raise ValueError("give one of grid, timesteps and sigmas, not several")
    if isinstance(name, Grid):
        if name.n_steps != steps:
            raise ValueError(f"a grid of {name.n_steps} steps was given for {steps} steps")
        return name
    if timesteps is not None or sigmas is not None:
        what, given, needed = ("sigmas", sigmas, steps + 1) if timesteps is None else ("timesteps", timesteps, steps)
        if given is None or len(given) != needed:
            raise ValueError(f"{steps} steps need {needed} {what}, got {0 if given is None else len(given)}")
        if fields.cls.explicit is not None:
            return fields.cls.explicit(fields, timesteps, sigmas)
        return check_timesteps(explicit_grid(fields, flow, timesteps, sigmas))
    if name is not None:
        fields = _with_grid(fields, name)
    if image_tokens is not None and fields.get("use_dynamic_shifting"):
        fields = fields.replace(mu=_mu(fields, image_tokens))
    return class_grid(fields, steps)


def _with_grid(fields: Fields, grid: str) -> Fields:
    known = fields.cls.grids
    if grid not in known:
        raise ValueError(f"unknown grid {grid!r}; known for {fields.cls.name} are {', '.join(known)}")
    rules = {f"use_{rule}_sigmas": rule == grid for rule in ("karras", "exponential", "beta")}
    chosen = {**rules, "use_lu_lambdas": grid == "lu", "named_grid": grid}
    return fields.replace(**chosen, **({"timestep_spacing": grid} if grid in SPACINGS else {}))


def _mu(fields: Fields, tokens: int) -> float:
    keys = ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len")
    given = [fields.get(key) for key in keys]
    return dynamic_mu(tokens, *given) if None not in given else dynamic_mu(tokens)
