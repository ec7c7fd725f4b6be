"""Reads flags from a TOML file: `--config run.toml`."""

import tomllib
from pathlib import Path
from typing import Any

import typer

_LARGEST = 2**20
_NEVER = ("config", "help")  # flags that a file cannot hold


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values in a file the defaults of a command's flags; the callback of `--config`.

    Keys are the names of flags, "lora-scale" or "lora_scale", and of arguments ("prompt"). Relative paths are relative
    to the current folder, as at the command line.

    Raises:
        ValueError: If the file is not TOML, or if it names a flag that the command does not have, or if a value does
            not fit its flag.
    """
    if path is None or context.resilient_parsing:
        return path
    known = {_spelled(name): item for item in context.command.params for name in _names(item)}
    values: dict[str, Any] = {}
    for key, value in _table(path).items():
        if (name := _spelled(key)) not in known:
            from sadaflow.solvers.names.settings import nearest

            raise ValueError(
                f"{path}: unknown key {key!r}{nearest(name, known)}; keys are the flags of `sadaflow "
                f"{context.info_name}`, which --help lists"
            )
        values[str(known[name].name)] = _fitted(f"{path}: {key}", known[name], value)
    context.default_map = values
    return path


def _table(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"--config {path}: there is no such file")
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"--config {path} has more than {_LARGEST} bytes, which is not a file of flags")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--config {path} is not valid TOML: {error}") from error


def _names(parameter: Any) -> list[str]:
    """Names of a flag or of an argument in a file."""
    return [] if parameter.name in _NEVER else [parameter.name, *(option.lstrip("-") for option in parameter.opts)]


def _spelled(name: str) -> str:
    return name.replace("_", "-")


def _fitted(label: str, parameter: Any, value: Any) -> Any:
    """A value as the command line would give it: text, a list of texts, or a boolean for a flag without a value."""
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise ValueError(f"{label} must be true or false, got {value!r}")
        return value
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, str | int | float):
            raise ValueError(f"{label} must be text or numbers, got {entry!r}")
    several = getattr(parameter, "multiple", False) or parameter.nargs != 1
    if isinstance(value, list) and not several:
        raise ValueError(f"{label} takes a single value, got {len(value)}")
    texts = [str(entry) for entry in entries]
    return texts if several else texts[0]
