"""Fields of scheduler configs: which are supported, at which values, and which are rejected by name."""

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..grid import Grid
from ..prediction import Prediction

# Larger than every published table, and small enough for any machine.
_LONGEST_TABLE: Final = 100_000


@dataclass(frozen=True)
class SchedulerClass:
    """A scheduler class of the Hub: the meaning of its fields, and its solver and grid.

    Attributes:
        name: class name, `_class_name` in configs.
        defaults: fields read at any value, with the default that the class uses if a config omits them.
        fixed: fields supported only at the listed values, the first being the default; any other value is rejected.
        grids: names of grids that can replace the class's own.
        grid: maps its fields and a number of steps to its own grid.
        solver: maps its fields to the name of its own solver.
        options: maps its fields to that solver's options.
        required: fixed fields that a config must contain, because the published default is rejected.
        flow: whether it samples flow time for all values of its fields.
        unused: fields that configs of this class may contain at any value, with the reason why each has no effect.
        inherited: defaults that replace those above for configs of another class.
        no_sampler: why its own sampler is not supported; a solver must then be named.
        prediction: maps its fields to what the network predicts, if `prediction_type` alone does not determine it.
        explicit: maps its fields, timesteps and sigmas (exactly one given) to the grid of a user's own points, for
            classes with a schedule of their own, which solvers of other classes leave unchanged.
    """

    name: str
    defaults: Mapping[str, Any]
    fixed: Mapping[str, tuple[Any, ...]]
    grids: tuple[str, ...]
    grid: Callable[["Fields", int], Grid]
    solver: Callable[["Fields"], str]
    options: Callable[["Fields"], dict[str, Any]]
    required: tuple[str, ...] = ()
    flow: bool = False
    unused: Mapping[str, str] = field(default_factory=dict)
    inherited: Mapping[str, Any] = field(default_factory=dict)
    no_sampler: str | None = None
    prediction: Callable[["Fields"], Prediction] | None = None
    explicit: Callable[["Fields", Sequence[float] | None, Sequence[float] | None], Grid] | None = None


@dataclass(frozen=True)
class Fields:
    """The fields of a config as read by one scheduler class.

    Attributes:
        cls: the scheduler class.
        values: field name -> value.
    """

    cls: SchedulerClass
    values: Mapping[str, Any]

    @classmethod
    def resolve(cls, config: Mapping[str, Any], scheduler: SchedulerClass, *, sampler: bool = True) -> "Fields":
        """Reads the fields of `scheduler`, each from the config or by default.

        In a config saved by another class, values that were only that class's defaults (`_use_default_values`) are
        ignored.

        Args:
            config: the content of a `scheduler_config.json`.
            scheduler: the class that reads it.
            sampler: False skips `fixed` and `required` fields, which affect the sampler but not the schedule.

        Raises:
            ValueError: if a value is not supported; the message names the field.
        """
        inherited = config.get("_class_name") != scheduler.name
        dropped = config.get("_use_default_values", ()) if inherited else ()
        if not isinstance(dropped, (list, tuple)):
            raise ValueError(f"_use_default_values={reprlib.repr(dropped)} in the scheduler config is not a list")
        written = {key: value for key, value in config.items() if key not in dropped}
        defaults = {**scheduler.defaults, **(scheduler.inherited if inherited else {})}
        values = {key: _read(scheduler, key, written, default) for key, default in defaults.items()}
        if sampler:
            if not inherited:
                _require(scheduler, written)
            values |= {key: _allowed(scheduler, key, written) for key in scheduler.fixed}
        return cls(scheduler, values)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def get(self, key: str) -> Any:
        """Returns the value of a field, or None if the class does not have it."""
        return self.values.get(key)

    def replace(self, **values: Any) -> "Fields":
        """Returns a copy with some fields replaced."""
        return Fields(self.cls, {**self.values, **values})

    def choice(self, key: str, known: Iterable[str], foreign: Mapping[str, str] | None = None) -> str:
        """Returns the value of a field that must be one of `known`; raises ValueError for any other value.

        Args:
            key: the field.
            known: supported values.
            foreign: maps values of other classes that share the field to values in `known`.
        """
        value = (foreign or {}).get(self[key], self[key])
        if value not in known:
            raise ValueError(f"{key}={value!r} in the scheduler config; known are {', '.join(known)}")
        return str(value)


def _read(scheduler: SchedulerClass, key: str, written: Mapping[str, Any], default: Any) -> Any:
    """Returns the value of a field that is read at any value; raises ValueError if its type is not the default's."""
    value = written.get(key, default)
    if type(default) is int and type(value) is float and value.is_integer():
        value = int(value)  # some writers of JSON store 1000 as 1000.0
    if not _fits(key, value, default):
        raise ValueError(
            f"{key}={reprlib.repr(value)} in the scheduler config has a wrong type or range; "
            f"{scheduler.name}'s default is {default!r}"
        )
    return value


def _require(scheduler: SchedulerClass, written: Mapping[str, Any]) -> None:
    """Raises ValueError if a required field is missing."""
    for key in scheduler.required:
        if key not in written:
            raise ValueError(
                f"the scheduler config leaves out {key}, and {scheduler.name}'s default is not supported; "
                f"write {key}={scheduler.fixed[key][0]!r} if that is meant"
            )


def _allowed(scheduler: SchedulerClass, key: str, written: Mapping[str, Any]) -> Any:
    """Returns the value of a fixed field (null means false); raises ValueError if it is not supported."""
    allowed = scheduler.fixed[key]
    value = written.get(key, allowed[0])
    if value is None and None not in allowed:
        value = False
    if value not in allowed:
        raise ValueError(
            f"{key}={reprlib.repr(value)} in the scheduler config is not supported for {scheduler.name}; "
            f"supported: {', '.join(map(repr, allowed))}"
        )
    return value


def _fits(key: str, value: Any, default: Any) -> bool:
    """Whether `value` has the type of `default` and lies within the limits of a noise table."""
    number = (type(value) is int and abs(value) < 2**63) or (type(value) is float and not math.isnan(value))
    if key == "trained_betas":
        listed = isinstance(value, (list, tuple)) and 2 <= len(value) <= _LONGEST_TABLE
        return value is None or (listed and all(type(beta) in (int, float) and 0 <= beta <= 1 for beta in value))
    if key == "num_train_timesteps":
        return type(value) is int and 2 <= value <= _LONGEST_TABLE
    if key in ("beta_start", "beta_end"):
        return number and 0 < value < 1
    if key in ("base_image_seq_len", "max_image_seq_len"):
        return type(value) is int and 0 < value < 2**63
    if key in ("base_shift", "max_shift"):
        return number and 0 <= value < math.inf
    if isinstance(default, bool):
        return value is None or isinstance(value, bool)
    if isinstance(default, int):
        return type(value) is int and abs(value) <= _LONGEST_TABLE
    if isinstance(default, tuple):
        return isinstance(value, (list, tuple)) and all(type(item) is int for item in value)
    if isinstance(default, str):
        return isinstance(value, str)
    return number or (default is None and value is None)
