"""Guidance rules by name, and as text."""

import inspect
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Final

from sadaflow.solvers.names.locate import summary
from sadaflow.solvers.names.registry import Kind, Registry
from sadaflow.solvers.names.settings import known_settings, name_of
from sadaflow.solvers.names.text import read_named, split_sum

from .apg import APG
from .base import Rule, Wrapper
from .cfg import CFG
from .cfg_plus_plus import CFGPlusPlus
from .compose import Compose
from .interval import Interval
from .rescale import Rescale
from .scale import Cosine, Linear
from .threshold import Threshold
from .zero_star import CFGZeroStar

_INNER: Final = "inner"
"""Name of the setting by which a rule takes the rule that it changes."""


def linear(first: float = 7.5, last: float = 1.0) -> CFG:
    """Classifier-free guidance with a scale that changes linearly with the step."""
    return CFG(Linear(first, last))


def cosine(first: float = 7.5, last: float = 1.0) -> CFG:
    """Classifier-free guidance with a scale that changes along half a cosine."""
    return CFG(Cosine(first, last))


_BUILT_IN: Final[Mapping[str, Callable[..., Rule]]] = MappingProxyType(
    {
        "cfg": CFG,
        "linear": linear,
        "cosine": cosine,
        "apg": APG,
        "cfg-pp": CFGPlusPlus,
        "zero-star": CFGZeroStar,
        "rescale": Rescale,
        "interval": Interval,
        "threshold": Threshold,
        "compose": Compose,
    }
)


def _maker_of(label: str, made: Any) -> Callable[..., Rule]:
    """`made`, if it is a class of rules or a function; raises ValueError, beginning with `label`, if not."""
    if not callable(made):
        raise ValueError(
            f"{label} is {reprlib.repr(made)}, which cannot be called: give the rule's class, or a function that makes "
            "it"
        )
    if isinstance(made, type) and not issubclass(made, Rule):
        raise ValueError(f"{label}: the class {made.__name__} is not derived from sadaflow.guidance.Rule")
    if inspect.isabstract(made):
        raise ValueError(f"{label}: the class {name_of(made)} lacks {', '.join(sorted(made.__abstractmethods__))}")
    maker: Callable[..., Rule] = made
    return maker


REGISTRY: Final = Registry(Kind("guidance", "sadaflow.guidance", _maker_of), _BUILT_IN)
"""All guidance rules by name; changed by `register_guidance` alone."""

GUIDANCE: Final[Mapping[str, Callable[..., Rule]]] = MappingProxyType(REGISTRY)
"""Read-only view of all guidance rules by name: built in, registered, and those of installed packages."""


def register_guidance(name: str, make: Callable[..., Rule], *, replace: bool = False) -> None:
    """Makes a guidance rule known by name, wherever the name of one is taken.

    Args:
        name: Letters, digits, ".", "-" and "_", beginning with a letter.
        make: A class, or a function, that makes the rule: `make(**settings)`. If it has a setting `inner`, it changes
            another rule, which is passed so.
        replace: Whether another rule that was registered under the name is replaced.

    Raises:
        ValueError: If the name is taken or malformed, or if `make` cannot make a rule.
    """
    REGISTRY.register(name, make, replace=replace)


def make_guidance(text: str) -> Rule:
    """Makes a guidance rule.

    Args:
        text: A key of `GUIDANCE`, or `module:Class`, with settings if wanted: "apg scale=10 eta=0". Rules that change
            it follow, in the order in which they act, each after a "+": "apg scale=10 + rescale phi=0.5 + interval
            low=0.3 high=5". A number stands for classifier-free guidance: "7 + rescale".

    Raises:
        ValueError: If a name, a setting or its value is unknown, or if the rules are in the wrong order.
    """
    first, *wrappers = split_sum(text, "guidance")
    number = _number(first)
    rule = _single(first, None) if number is None else CFG(number)
    for part in wrappers:
        rule = _single(part, rule)
    return rule


def names_foreign_code(text: str) -> bool:
    """Whether the text of a rule names a class in a module or file."""
    return any(":" in read_named(part, "guidance").name for part in split_sum(text, "guidance"))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _single(text: str, inner: Rule | None) -> Rule:
    named = read_named(text, "guidance")
    maker = REGISTRY.find(named.name)
    label, wraps = f"guidance {named.name!r}", _INNER in known_settings(maker).kinds
    if wraps and inner is None:
        raise ValueError(f"{label} changes another rule, which is written before it: '7.5 + {text.strip()}'")
    if not wraps and inner is not None:
        raise ValueError(f"{label} does not change another rule: it is written first, and after a '+' what changes it")
    settings = known_settings(maker, without=(_INNER,)).read(dict(named.settings), written=True)
    try:
        made = maker(**settings) if inner is None else maker(inner, **settings)
    except ValueError:
        raise
    except Exception as error:  # a stranger's class may raise anything
        raise ValueError(f"{label}: {name_of(maker)} cannot be made: {summary(error)}") from error
    if not isinstance(made, Rule):
        raise ValueError(f"{label} is a {type(made).__name__}, not a sadaflow.guidance.Rule")
    return made


def guidance_text(rule: Rule | float | tuple[float, ...]) -> str:
    """The text of numbers; that from which `make_guidance` makes a rule again; or the name of its class."""
    if not isinstance(rule, Rule):
        return ", ".join(f"{scale:g}" for scale in (rule if isinstance(rule, tuple) else (rule,)))
    if isinstance(rule, CFG) and isinstance(rule.scale, (Linear, Cosine)):
        return f"{type(rule.scale).__name__.lower()} first={rule.scale.first!r} last={rule.scale.last!r}"
    names = {made: name for name, made in REGISTRY.built_in.items()}
    settings = {item.name: getattr(rule, item.name) for item in fields(rule) if item.name != _INNER}  # type: ignore[arg-type]
    if type(rule) not in names or any(callable(value) for value in settings.values()):
        return type(rule).__name__
    own = " ".join([names[type(rule)], *(f"{name}={_written(value)}" for name, value in settings.items())])
    return f"{guidance_text(rule.inner)} + {own}" if isinstance(rule, Wrapper) else own


def _written(value: object) -> str:
    """A number, or a tuple of numbers or texts, as settings are written."""
    return repr(value).replace(" ", "") if not isinstance(value, tuple) else f"({','.join(map(repr, value))})"
