"""Fields of scheduler configs: which are honoured, at which values, and which are refused by name."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .grid import Grid

# Written by the libraries that save configs; they say nothing about sampling.
_BOOKKEEPING = frozenset({"_class_name", "_diffusers_version", "_name_or_path", "_commit_hash", "_use_default_values"})
# These act only where `thresholding`, or `clip_sample`, is on, and that is refused.
_BOOKKEEPING |= {"dynamic_thresholding_ratio", "sample_max_value", "clip_sample_range"}


@dataclass(frozen=True)
class SchedulerClass:
    """A scheduler class of the Hub.

    `defaults`: the fields honoured at any value, with the value the class assumes where a config leaves them out.
    `fixed`: fields honoured at the listed values only, the first being the default; any other value is refused.
    `solver` is the name of its own solver, `grid(fields, steps)` its grid, `options(fields, solver)` the solver's
    options, where `solver` is the name that the user asked for, if any. `required` are fixed fields that a config of
    this class must write out, because what the class assumes without them is not supported.
    """

    name: str
    solver: str
    defaults: Mapping[str, Any]
    fixed: Mapping[str, tuple[Any, ...]]
    grid: Callable[["Fields", int], Grid]
    options: Callable[["Fields", str | None], dict[str, Any]]
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fields:
    """The resolved fields of a config, as the class `cls` reads them."""

    cls: SchedulerClass
    values: Mapping[str, Any]

    @classmethod
    def resolve(cls, config: Mapping[str, Any], scheduler: SchedulerClass, *, inherited: bool) -> "Fields":
        """The fields of `scheduler`, each from the config or by default.

        `inherited` says that the config was saved by another class: its values that were only that class's defaults
        (`_use_default_values`) then do not count. Raises ValueError for a value that is not supported, by name.
        """
        dropped = set(config.get("_use_default_values", ())) if inherited else set()
        written = {key: value for key, value in config.items() if key not in dropped}
        missing = [key for key in scheduler.required if key not in written and not inherited]
        if missing:
            value = scheduler.fixed[missing[0]][0]
            raise ValueError(
                f"the scheduler config leaves out {missing[0]}, and {scheduler.name}'s default is not supported; "
                f"write {missing[0]}={value!r} if that is meant"
            )
        for key, allowed in scheduler.fixed.items():
            value = written.get(key, allowed[0])
            if value not in allowed:
                raise ValueError(
                    f"{key}={value!r} in the scheduler config is not supported for {scheduler.name}; "
                    f"supported: {', '.join(map(repr, allowed))}"
                )
        values = {key: written.get(key, default) for key, default in scheduler.defaults.items()}
        return cls(scheduler, values)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def replace(self, **values: Any) -> "Fields":
        return Fields(self.cls, {**self.values, **values})


def refuse_unknown(config: Mapping[str, Any], classes: Iterable[SchedulerClass]) -> None:
    """Raise ValueError for a field that no class knows; a field of another class than the config's has no effect."""
    known = _BOOKKEEPING.union(*({*cls.defaults, *cls.fixed} for cls in classes))
    unknown = sorted(set(config) - known)
    if unknown:
        raise ValueError(f"unknown fields in the scheduler config: {', '.join(unknown)}; remove those not in use")
