"""The arguments of a request as command-line flags, made from their declarations."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from ..families.argument import Argument
from ..families.request import ARGUMENTS, Request
from .parsers import Group, finite, number_or_text, seed, whole

POSITIONAL: Final = "prompt"
_PARSERS: Final = {
    int: whole, list[int]: whole, float: finite, list[float]: finite, float | str: number_or_text,
}  # fmt: skip
_METAVARS: Final = {int: "N", float: "X", list[float]: "X"}


def request_flags() -> Group:
    """The flags of all arguments that have one, which together make a `Request`."""
    return Group({flag_of(name): _hint(name, declared) for name, declared in _flagged().items()}, _request)


def flag_of(name: str) -> str:
    """Name of the flag of the argument `name`."""
    return ARGUMENTS[name].flag or name


def _flagged() -> dict[str, Argument]:
    return {name: declared for name, declared in ARGUMENTS.items() if declared.flag_type is not None}


def _hint(name: str, declared: Argument) -> Any:
    """The flag's type, annotated for typer."""
    kind, shown = declared.flag_type, declared.help if isinstance(declared.help, str) else declared.help()
    if name == POSITIONAL:
        return Annotated[kind | None, typer.Argument(metavar=declared.metavar, help=shown)]
    if kind is bool:
        return Annotated[bool | None, typer.Option(f"--{flag_of(name).replace('_', '-')}", help=shown)]
    how: dict[str, Any] = {"help": shown, "metavar": _METAVARS.get(kind, declared.metavar)}
    if kind in _PARSERS:
        how["parser"] = seed if name == "seed" else _PARSERS[kind]
        kind = str if kind == float | str else kind  # typer takes no unions
    if declared.shown_default is not None:
        how["show_default"] = declared.shown_default
    return Annotated[kind | None, typer.Option(**how)]


def _request(values: Mapping[str, Any]) -> Request:
    """The request of the flags that were given; a flag given once that may be repeated counts as its value."""
    given = {}
    for name, declared in _flagged().items():
        value = values[flag_of(name)]
        if value is None or value == []:
            continue
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        label = name if name == POSITIONAL else f"--{flag_of(name).replace('_', '-')}"
        given[name] = declared.read(label, value)
    return Request(**given)
