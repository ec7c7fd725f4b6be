"""Fields of scheduler configs: which are honoured, at which values, and which are refused by name."""

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .grid import Grid
from .prediction import Prediction

# Written by the libraries that save configs; they say nothing about sampling.
_BOOKKEEPING = frozenset({"_class_name", "_diffusers_version", "_name_or_path", "_commit_hash", "_use_default_values"})
# Settings of clipping and thresholding, which are refused where they are switched on.
_INERT = frozenset({"clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"})
# Far beyond every published table, and small enough for any machine.
_LONGEST_TABLE: Final = 100_000


@dataclass(frozen=True)
class SchedulerClass:
    """A scheduler class of the Hub.

    `defaults`: the fields honoured at any value, with the value the class assumes where a config leaves them out.
    `fixed`: fields honoured at the listed values only, the first being the default; any other value is refused.
    `solver(fields)` is the name of its own solver, `options(fields)` that solver's options, `grid(fields, steps)` its
    grid and `grids` the names of grids it can have instead. `required` are fixed fields that a config of this class
    must write out, because what the class assumes without them is not supported. `prediction(fields)` is what the
    network predicts, where the field `prediction_type` does not say it alone. A class with `explicit` has a schedule of
    its own, which solvers of other classes leave as it is; `explicit(fields, timesteps, sigmas)` is the grid of a
    user's own points on it, one of the two given.
    """

    name: str
    defaults: Mapping[str, Any]
    fixed: Mapping[str, tuple[Any, ...]]
    grids: tuple[str, ...]
    grid: Callable[["Fields", int], Grid]
    solver: Callable[["Fields"], str]
    options: Callable[["Fields"], dict[str, Any]]
    required: tuple[str, ...] = ()
    prediction: Callable[["Fields"], Prediction] | None = None
    explicit: Callable[["Fields", Sequence[float] | None, Sequence[float] | None], Grid] | None = None


@dataclass(frozen=True)
class Fields:
    """The resolved fields of a config, as the class `cls` reads them."""

    cls: SchedulerClass
    values: Mapping[str, Any]

    @classmethod
    def resolve(cls, config: Mapping[str, Any], scheduler: SchedulerClass) -> "Fields":
        """The fields of `scheduler`, each from the config or by default.

        In a config saved by another class, values that were only that class's defaults (`_use_default_values`) do not
        count. Raises ValueError for a value that is not supported, by name.
        """
        inherited = config.get("_class_name") != scheduler.name
        dropped = config.get("_use_default_values", ()) if inherited else ()
        if not isinstance(dropped, (list, tuple)):
            raise ValueError(f"_use_default_values={reprlib.repr(dropped)} in the scheduler config is no list of names")
        written = {key: value for key, value in config.items() if key not in dropped}
        for key, default in scheduler.defaults.items():
            if key in written and not _fits(key, written[key], default):
                raise ValueError(
                    f"{key}={reprlib.repr(written[key])} in the scheduler config is no value for it; "
                    f"{scheduler.name}'s default is {default!r}"
                )
        for key in scheduler.required:
            if key not in written and not inherited:
                raise ValueError(
                    f"the scheduler config leaves out {key}, and {scheduler.name}'s default is not supported; "
                    f"write {key}={scheduler.fixed[key][0]!r} if that is meant"
                )
        for key, allowed in scheduler.fixed.items():
            value = written.get(key, allowed[0])
            if value not in allowed:
                raise ValueError(
                    f"{key}={reprlib.repr(value)} in the scheduler config is not supported for {scheduler.name}; "
                    f"supported: {', '.join(map(repr, allowed))}"
                )
        return cls(scheduler, {key: written.get(key, default) for key, default in scheduler.defaults.items()})

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


def _fits(key: str, value: Any, default: Any) -> bool:
    """Whether `value` is of the kind of `default`, and within what a noise table can be."""
    number = type(value) in (int, float) and not math.isnan(value)
    if key == "trained_betas":
        listed = isinstance(value, (list, tuple)) and 2 <= len(value) <= _LONGEST_TABLE
        return value is None or (listed and all(type(one) in (int, float) and 0 <= one <= 1 for one in value))
    if key == "num_train_timesteps":
        return type(value) is int and 2 <= value <= _LONGEST_TABLE
    if key in ("beta_start", "beta_end"):
        return number and 0 < value < 1
    if isinstance(default, bool):
        return value is None or isinstance(value, bool)
    if isinstance(default, int):
        return type(value) is int and abs(value) <= _LONGEST_TABLE
    if isinstance(default, tuple):
        return isinstance(value, (list, tuple)) and all(type(one) is int for one in value)
    if isinstance(default, str):
        return isinstance(value, str)
    return number or (default is None and value is None)


def refuse_unknown(config: Mapping[str, Any], classes: Iterable[SchedulerClass]) -> None:
    """Raise ValueError for a field that no class knows; a field of another class than the config's has no effect."""
    known = (_BOOKKEEPING | _INERT).union(*({*cls.defaults, *cls.fixed} for cls in classes))
    unknown = sorted(set(config) - known)
    if unknown:
        names = ", ".join(name[:80] for name in unknown[:5])
        raise ValueError(f"unknown fields in the scheduler config: {names}; remove those not in use")
