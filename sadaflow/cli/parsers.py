"""Reads the values of command-line flags, and turns a dataclass of flags into a command."""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from .flag_errors import errors_in_flags

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """Flags whose values together make up one field of a dataclass of flags: `Annotated[Type, Group(...)]`.

    Attributes:
        flags: Type hints by name, each annotated for typer; all of them default to None.
        build: Makes the field's value from the values of the flags by name.
        names: The flag of each argument that errors may name, where the flag has another name.
    """

    flags: Mapping[str, Any]
    build: Callable[[Mapping[str, Any]], Any]
    names: Mapping[str, str]


def whole(value: str) -> int:
    """Reads a whole number."""
    try:
        return int(value)
    except ValueError:
        raise typer.BadParameter(f"{value!r} is not a whole number") from None


def seed(value: str) -> int:
    """Reads a seed."""
    number = whole(value)
    if not 0 <= number < 2**63:
        raise typer.BadParameter(f"{value} is not between 0 and 2^63 - 1")
    return number


def finite(value: str) -> float:
    """Reads a finite number."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise typer.BadParameter(f"{value!r} is not a finite number")
    return number


def number_or_text(value: str) -> float | str:
    """Reads a finite number, or else leaves the text as it is."""
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else finite(value)


def text(metavar: str, help: str, **how: Any) -> Any:
    """A flag that takes text; `how` are further arguments of `typer.Option`."""
    return typer.Option(metavar=metavar, help=help, **how)


def count(help: str, **how: Any) -> Any:
    """A flag that takes a whole number."""
    return typer.Option(parser=whole, metavar="N", help=help, **how)


def real(help: str, **how: Any) -> Any:
    """A flag that takes a finite number."""
    return typer.Option(parser=finite, metavar="X", help=help, **how)


def with_options(command: Callable[[T], None]) -> Callable[..., None]:
    """Turn a function of a dataclass of flags into a command of typer's.

    Args:
        command: A function whose argument `options` is a dataclass. Its fields are the flags, annotated for typer or by
            a `Group`.

    Returns:
        A function with a parameter for every flag.
    """
    kind: Any = get_type_hints(command)["options"]
    hints = get_type_hints(kind, include_extras=True)
    groups = {name: group for name, hint in hints.items() if (group := _group(hint)) is not None}

    def run(**values: Any) -> None:
        with errors_in_flags(names):
            made = {
                name: group.build({flag: values.pop(flag) for flag in group.flags}) for name, group in groups.items()
            }
            command(kind(**values, **made))

    flags: dict[str, tuple[Any, Any]] = {}
    for field in fields(kind):
        if field.name in groups:
            flags |= {flag: (hint, None) for flag, hint in groups[field.name].flags.items()}
        else:
            default = Parameter.empty if field.default is MISSING else field.default
            flags[field.name] = (hints[field.name], default)
    names = {flag: flag for flag in flags}
    for group in groups.values():
        names |= group.names
    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        for name, (hint, default) in flags.items()
    ]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {name: hint for name, (hint, _) in flags.items()}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _group(hint: Any) -> Group | None:
    """The group that annotates a type hint, if one does."""
    if get_origin(hint) is not Annotated:
        return None
    return next((extra for extra in get_args(hint)[1:] if isinstance(extra, Group)), None)
