"""The arguments of a request as command-line flags, made from their declarations."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from ..families.argument import Argument, arguments
from ..families.control_options import ControlOptions
from ..families.guidance_options import GuidanceOptions
from ..families.options import SamplingOptions
from ..families.picture_options import PictureOptions
from ..families.request import ARGUMENTS, Request
from ..families.text_options import TextOptions
from .help import ACCELERATION, ADAPTERS, BASICS, GUIDANCE, MODEL, PICTURES, WORDS
from .parsers import Group, finite, number_or_text, seed, whole

POSITIONAL: Final = "prompt"
_PARSERS: Final = {
    int: whole, list[int]: whole, float: finite, list[float]: finite, float | str: number_or_text,
}  # fmt: skip
_METAVARS: Final = {int: "N", float: "X", list[float]: "X"}


_GROUPS: Final = {
    **dict.fromkeys(arguments(SamplingOptions), BASICS),
    **dict.fromkeys(("accelerator", "speedup"), ACCELERATION),
    **dict.fromkeys(("guidance", *arguments(GuidanceOptions)), GUIDANCE),
    **dict.fromkeys(arguments(PictureOptions), PICTURES),
    **dict.fromkeys(arguments(ControlOptions), ADAPTERS),
    **dict.fromkeys(arguments(TextOptions), WORDS),
}
"""The group of --help that shows each argument; those of other arguments are specific to some models."""


def request_flags() -> Group:
    """The flags of all arguments that have one, which together make a `Request`."""
    flags = {flag_of(name): _hint(name, declared) for name, declared in _flagged().items()}
    return Group(flags, _request, {name: flag_of(name) for name in _flagged() if name != POSITIONAL})


def flag_of(name: str) -> str:
    """Name of the flag of the argument `name`."""
    return ARGUMENTS[name].flag or name


def _flagged() -> dict[str, Argument]:
    return {name: declared for name, declared in ARGUMENTS.items() if declared.flag_type is not None}


def _hint(name: str, declared: Argument) -> Any:
    """The flag's type, annotated for typer."""
    kind = declared.flag_type
    how: dict[str, Any] = {"help": declared.help, "rich_help_panel": _GROUPS.get(name, MODEL)}
    if name == POSITIONAL:
        return Annotated[kind | None, typer.Argument(metavar=declared.metavar, help=declared.help)]
    if kind is bool:
        return Annotated[bool | None, typer.Option(f"--{flag_of(name).replace('_', '-')}", **how)]
    how["metavar"] = _METAVARS.get(kind, declared.metavar)
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
