"""Fields of scheduler configs: which are honoured, at which values, and which are refused by name."""

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..grid import Grid
from ..prediction import Prediction

# Far beyond every published table, and small enough for any machine.
_LONGEST_TABLE: Final = 100_000


@dataclass(frozen=True)
class SchedulerClass:
    """A scheduler class of the Hub: what its fields mean, and the solver and grid that it stands for.

    Args:
        name: The class's name, `_class_name` in configs.
        defaults: Fields read at any value, with the value that the class assumes where a config leaves them out.
        fixed: Fields read at the listed values only, the first being the default; any other value is refused.
        grids: Names of grids that can take the place of its own.
        grid: From its fields and a number of steps to its own grid.
        solver: From its fields to the name of its own solver.
        options: From its fields to that solver's options.
        required: Fixed fields that a config of this class must write out, because the published default is refused.
        flow: Whether it samples flow time whatever its fields say.
        unused: Fields that configs of this class may carry at any value, each with the reason why it has no effect.
        inherited: Defaults that replace those above for configs of another class.
        no_sampler: Why its own sampler cannot be had; then a solver must be named.
        prediction: From its fields to what the network predicts, where `prediction_type` does not say it alone.
        explicit: From its fields, timesteps and sigmas (one of them given) to the grid of a user's own points, for
            classes with a schedule of their own, which solvers of other classes leave as it is.
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
    """The resolved fields of a config, as the class `cls` reads them."""

    cls: SchedulerClass
    values: Mapping[str, Any]

    @classmethod
    def resolve(cls, config: Mapping[str, Any], scheduler: SchedulerClass, *, sampler: bool = True) -> "Fields":
        """The fields of `scheduler`, each from the config or by default.

        In a config saved by another class, values that were only that class's defaults (`_use_default_values`) do not
        count. `sampler` False leaves out `fixed` and `required` fields, which say how to sample and not from what.
        Raises ValueError for a value that is not supported, by name.
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
        return self.values.get(key)

    def replace(self, **values: Any) -> "Fields":
        return Fields(self.cls, {**self.values, **values})

    def choice(self, key: str, known: Iterable[str], foreign: Mapping[str, str] | None = None) -> str:
        """The value of a field that names one of `known`. `foreign` maps values of other classes that share the field.

        Raises ValueError for any other value.
        """
        value = (foreign or {}).get(self[key], self[key])
        if value not in known:
            raise ValueError(f"{key}={value!r} in the scheduler config; known are {', '.join(known)}")
        return str(value)


def _read(scheduler: SchedulerClass, key: str, written: Mapping[str, Any], default: Any) -> Any:
    """The value of a field that is read at any value. Raises ValueError if it is not of the kind of its default."""
    value = written.get(key, default)
    if type(default) is int and type(value) is float and value.is_integer():
        value = int(value)  # JSON of some writers has 1000.0 for 1000
    if not _fits(key, value, default):
        raise ValueError(
            f"{key}={reprlib.repr(value)} in the scheduler config is not a value for it; "
            f"{scheduler.name}'s default is {default!r}"
        )
    return value


def _require(scheduler: SchedulerClass, written: Mapping[str, Any]) -> None:
    for key in scheduler.required:
        if key not in written:
            raise ValueError(
                f"the scheduler config leaves out {key}, and {scheduler.name}'s default is not supported; "
                f"write {key}={scheduler.fixed[key][0]!r} if that is meant"
            )


def _allowed(scheduler: SchedulerClass, key: str, written: Mapping[str, Any]) -> Any:
    """The value of a fixed field; null means false. Raises ValueError for one that is not supported."""
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
    """Whether `value` is of the kind of `default`, and within what a noise table can be."""
    number = (type(value) is int and abs(value) < 2**63) or (type(value) is float and not math.isnan(value))
    if key == "trained_betas":
        listed = isinstance(value, (list, tuple)) and 2 <= len(value) <= _LONGEST_TABLE
        return value is None or (listed and all(type(one) in (int, float) and 0 <= one <= 1 for one in value))
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
        return isinstance(value, (list, tuple)) and all(type(one) is int for one in value)
    if isinstance(default, str):
        return isinstance(value, str)
    return number or (default is None and value is None)
