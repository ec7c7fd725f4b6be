"""Reads the values of command-line flags, and turns a dataclass of flags into a command."""

import math
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from .options import Options


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number") from None


def _seed(text: str) -> int:
    seed = _whole(text)
    if not 0 <= seed < 2**63:
        raise typer.BadParameter(f"{text} is not between 0 and 2^63 - 1")
    return seed


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{text!r} is not a finite number")
    return value


def text(metavar: str, help: str, **how: Any) -> Any:
    return typer.Option(metavar=metavar, help=help, **how)


def count(help: str, **how: Any) -> Any:
    return typer.Option(parser=_whole, metavar="N", help=help, **how)


def real(help: str, **how: Any) -> Any:
    return typer.Option(parser=_number, metavar="X", help=help, **how)


def pair(metavar: str, help: str, default: str = "as for the other") -> Any:
    return typer.Option(metavar=metavar, help=f"On SDXL: {help}", show_default=default)


def with_options(command: Callable[[Any], None]) -> Callable[..., None]:
    """`command` as typer reads it: every field of the `Options` that it takes is a parameter of its own."""
    kind: type[Options] = get_type_hints(command)["options"]
    hints = get_type_hints(kind, include_extras=True)

    def run(**given: Any) -> None:
        command(kind(**given))

    flags = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=_default(field), annotation=hints[field.name])
        for field in fields(kind)
    ]
    run.__signature__ = Signature(flags)  # type: ignore[attr-defined]
    run.__annotations__ = hints
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _default(field: Field[Any]) -> Any:
    return Parameter.empty if field.default is MISSING else field.default
