"""Solvers, grids, schedules and accelerators as JSON can hold them, and back, to the last bit.

A config names a class and holds the values of its fields:

    {"format": 1, "class": "sadaflow.solvers:DPMpp", "fields": {"grid": {...}, "noise": null, "solver_order": 2, ...}}

Reading one runs code of the class that it names, and a config may come from a stranger's picture. So classes of this
library and those that are registered or imported already are taken by themselves, others only from trusted configs.
"""

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, Final

from .encoding import decode, encode
from .locate import locate, summary
from .plugins import offered_modules
from .settings import nearest

FORMAT: Final = 1
"""Version of the layout of a config; another one is refused."""

_OWN: Final = ("sadaflow.solvers", "sadaflow.accelerators", "sadaflow.guidance")
"""Packages whose public classes are named by them, wherever in them they are defined."""


def to_config(made: Any) -> dict[str, Any]:
    """The config of a solver, grid, schedule or accelerator, which `from_config` reads.

    Args:
        made: The object. It, and the objects in its fields, are dataclasses whose fields hold numbers, text, tuples,
            tensors and such objects; or they have a method `to_config()`, which returns such values by name, and a
            class method `from_config`, which takes them.

    Raises:
        ValueError: If a field holds anything else, such as a function, or if a class cannot be found by its name.
    """
    return {"format": FORMAT, **_object_to_config(made, type(made).__name__)}


def from_config(config: Mapping[str, Any], *, trusted: bool = False) -> Any:
    """Makes the object of a config again.

    Args:
        config: What `to_config` returned.
        trusted: Whether modules that the config names may be imported, which runs their code.

    Raises:
        ValueError: if the format, the class or a field is unknown, if a value is malformed, or if the config names
            code that is neither part of this library, nor registered, nor imported, and is not trusted.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"a config is a mapping with format, class and fields, got a {type(config).__name__}")
    if "unavailable" in config:
        raise ValueError(f"the object was not recorded: {config['unavailable']}")
    if config.get("format") != FORMAT:
        raise ValueError(f"the config has format {config.get('format')!r}, this version reads {FORMAT}")
    try:
        return _object_of({key: value for key, value in config.items() if key != "format"}, "the config", trusted)
    except RecursionError as error:
        raise ValueError("the config is nested too deeply") from error


def config_or_reason(made: Any) -> dict[str, Any]:
    """The config of an object; or the reason why it has none, which `from_config` repeats. It raises nothing."""
    try:
        return to_config(made)
    except Exception as error:  # a stranger's to_config may raise anything, and the sample that it belongs to is made
        return {"unavailable": str(error) if isinstance(error, ValueError) else summary(error)}


def _object_to_config(made: Any, label: str) -> dict[str, Any]:
    own = getattr(made, "to_config", None)
    if is_dataclass(made) and not isinstance(made, type):
        held = {item.name: getattr(made, item.name) for item in fields(made) if item.init}
    elif callable(own) and not isinstance(made, type):
        held = dict(own())
    else:
        what = f"the function {made.__qualname__}" if hasattr(made, "__qualname__") else f"a {type(made).__name__}"
        raise ValueError(
            f"{label} is {what}, which a config cannot hold: make it a frozen dataclass (with __call__ if it is "
            "called), or give its class to_config and from_config"
        )
    name = class_name(type(made))
    stored = {key: encode(value, f"{label}.{key}", _object_to_config) for key, value in held.items()}
    return {"class": name, "fields": stored}


def class_name(kind: type) -> str:
    """The name by which a config finds a class, "module:Class".

    Raises:
        ValueError: if the class cannot be found so, as one that is defined inside a function.
    """
    for package in _OWN:
        if getattr(sys.modules.get(package), kind.__name__, None) is kind:
            return f"{package}:{kind.__name__}"
    module: Any = sys.modules.get(kind.__module__)
    found = module
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not kind:
        raise ValueError(
            f"the class {kind.__module__}:{kind.__qualname__} cannot be found by this name: define it at the top of a "
            "module"
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def _object_of(content: Mapping[str, Any], label: str, trusted: bool) -> Any:
    name, held = content.get("class"), content.get("fields")
    if not isinstance(name, str) or not isinstance(held, Mapping) or content.keys() != {"class", "fields"}:
        raise ValueError(f"{label} must hold class and fields, got {', '.join(map(repr, content)) or 'nothing'}")
    kind = _class_of(name, trusted)
    values = {key: decode(value, f"{name}.{key}", partial(_object_of, trusted=trusted)) for key, value in held.items()}
    if is_dataclass(kind):
        known = [item.name for item in fields(kind) if item.init]
        for key in values:
            if key not in known:
                raise ValueError(f"{name} has no field {key!r}{nearest(key, known)}; known: {', '.join(known)}")
        make: Any = kind
    else:
        make = kind.from_config  # type: ignore[attr-defined]  # `_class_of` returns no class without it
    try:
        return make(**values) if is_dataclass(kind) else make(values)
    except RecursionError:
        raise
    except Exception as error:  # a stranger's class, or a value of a wrong type
        raise ValueError(f"the config of {name} cannot be used: {summary(error)}") from error


def _class_of(name: str, trusted: bool) -> type:
    """The class of a config; raises ValueError if it is none that a config may name."""
    module = name.rpartition(":")[0]
    own = any(f"{module}.".startswith(f"{package}.") for package in _OWN)
    if not (own or trusted or module in sys.modules or module in offered_modules()):
        raise ValueError(
            f"the config names {name}, code outside of this library: import or register it before, or pass "
            "trusted=True (--trusted) if you trust where it is from"
        )
    kind = locate(name, "class")
    if not isinstance(kind, type) or not (is_dataclass(kind) or callable(getattr(kind, "from_config", None))):
        raise ValueError(f"the config names {name}, which is not a class that a config can hold")
    return kind
