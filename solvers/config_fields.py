"""Fields of scheduler configs: which are honoured, at which values, and which are refused by name."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .grid import Grid

# Written by the libraries that save configs; they say nothing about sampling.
_BOOKKEEPING = frozenset({"_class_name", "_diffusers_version", "_name_or_path", "_commit_hash", "_use_default_values"})
# Settings of clipping and thresholding, which are refused where they are switched on.
_INERT = frozenset({"clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"})


@dataclass(frozen=True)
class SchedulerClass:
    """A scheduler class of the Hub.

    `defaults`: the fields honoured at any value, with the value the class assumes where a config leaves them out.
    `fixed`: fields honoured at the listed values only, the first being the default; any other value is refused.
    `solver(fields)` is the name of its own solver, `options(fields)` that solver's options, `grid(fields, steps)` its
    grid and `grids` the names of grids it can have instead. `required` are fixed fields that a config of this class
    must write out, because what the class assumes without them is not supported.
    """

    name: str
    defaults: Mapping[str, Any]
    fixed: Mapping[str, tuple[Any, ...]]
    grids: tuple[str, ...]
    grid: Callable[["Fields", int], Grid]
    solver: Callable[["Fields"], str]
    options: Callable[["Fields"], dict[str, Any]]
    required: tuple[str, ...] = ()


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
        dropped = set(config.get("_use_default_values", ())) if inherited else set()
        written = {key: value for key, value in config.items() if key not in dropped}
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
                    f"{key}={value!r} in the scheduler config is not supported for {scheduler.name}; "
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


def refuse_unknown(config: Mapping[str, Any], classes: Iterable[SchedulerClass]) -> None:
    """Raise ValueError for a field that no class knows; a field of another class than the config's has no effect."""
    known = (_BOOKKEEPING | _INERT).union(*({*cls.defaults, *cls.fixed} for cls in classes))
    unknown = sorted(set(config) - known)
    if unknown:
        raise ValueError(f"unknown fields in the scheduler config: {', '.join(unknown)}; remove those not in use")
