"""The settings that a class or a function takes: their names, their types, and values given for them."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, get_type_hints

from .values import UNTYPED, Unfit, read_value


@dataclass(frozen=True)
class Known:
    """The settings of a class or function.

    Attributes:
        owner: Its name.
        kinds: Type of each setting, by name.
        open: Whether it accepts further keywords.
    """

    owner: str
    kinds: Mapping[str, Any]
    open: bool

    def read(self, given: Mapping[str, Any], *, written: bool) -> dict[str, Any]:
        """Reads values by the types of the settings; see `read_value`.

        Raises:
            ValueError: if a setting is unknown, with the known ones and the nearest; or if a value does not fit.
        """
        return {name: self._value(name, value, written) for name, value in given.items()}

    def _value(self, name: str, value: Any, written: bool) -> Any:
        if name not in self.kinds and not self.open:
            what = f"known: {', '.join(self.kinds)}" if self.kinds else "it has none"
            raise ValueError(f"{self.owner} has no setting {name!r}{nearest(name, self.kinds)}; {what}")
        try:
            return read_value(self.kinds.get(name, UNTYPED), value, written=written)
        except Unfit as error:
            raise ValueError(f"{self.owner}.{name} must be {error}, got {value!r}") from None


def known_settings(make: Callable[..., Any], *, after: int = 0, without: Iterable[str] = ()) -> Known:
    """The settings that a class or a function takes.

    Args:
        make: The class or function.
        after: Number of parameters at the front that are not settings, as the grid of a solver.
        without: Names of further ones.

    Raises:
        ValueError: if its parameters cannot be found.
    """
    try:
        parameters = list(inspect.signature(make).parameters.values())[after:]
    except (TypeError, ValueError) as error:
        raise ValueError(f"the parameters of {name_of(make)} cannot be read: {error}") from error
    hints, left_out = _hints(make), set(without)
    kinds = {
        parameter.name: _kind(parameter, hints)
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in left_out
    }
    return Known(name_of(make), kinds, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters))


def nearest(name: str, known: Iterable[str]) -> str:
    """The clause " (did you mean 'x'?)" of an error, if a known name is near; empty otherwise."""
    found = get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def name_of(make: object) -> str:
    """Name of a class or function, for errors."""
    inner = make.func if isinstance(make, partial) else make
    return str(getattr(inner, "__name__", type(inner).__name__))


def _kind(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    """The type that a parameter declares, or that of its default."""
    if parameter.name in hints:
        return hints[parameter.name]
    default = parameter.default
    return type(default) if type(default) in (bool, int, float, str, tuple) else UNTYPED


def _hints(make: Any) -> Mapping[str, Any]:
    """Declared types by name; empty if they cannot be resolved, as those imported for type checkers alone."""
    inner = make.func if isinstance(make, partial) else make
    if isinstance(inner, type):
        inner = inner if "__dataclass_fields__" in vars(inner) else inner.__init__  # type: ignore[misc]
    try:
        return get_type_hints(inner)
    except Exception:  # an annotation is code, and may raise anything
        return {}
