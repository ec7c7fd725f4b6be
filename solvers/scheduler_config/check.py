"""Checks whether a scheduler config can be sampled with."""

from collections.abc import Mapping
from typing import Any, Final

from .catalogue import read_class
from .config import from_scheduler_config, read_schedule

_SERVE_MOST: Final = ("euler", "ddim", "dpmpp2m")  # each reads fields that the others ignore


def check_scheduler_config(config: Mapping[str, Any]) -> list[str]:
    """Checks that a scheduler config can be sampled with, before anything else of a checkpoint is read.

    Args:
        config: the content of a `scheduler_config.json`.

    Returns:
        Notes, one line each: which fields are ignored and why, and why the class's own sampler is not supported. In the
        latter case every call must name a solver.

    Raises:
        ValueError: if no solver supports the config. The message names the class or the field, and a remedy.
    """
    read_schedule(config)
    config, own, ignored = read_class(config)
    notes = []
    if ignored:
        listed = ", ".join(f"{key}={config[key]!r} ({reason})" for key, reason in ignored.items())
        notes.append(f"the scheduler config has fields that are ignored: {listed}")
    refusal = _refusal(config, None)
    if refusal is not None:
        others = (name for name in _SERVE_MOST if _refusal(config, name) is None)
        other = next(others, None)
        if other is None:
            raise ValueError(refusal)
        remedy = "" if own.no_sampler else f"; name another solver in every call (solver={other!r})"
        notes.append(refusal + remedy)
    return notes


def _refusal(config: Mapping[str, Any], solver: str | None) -> str | None:
    """Returns why a readable config does not support a solver (None: its own), or None if it does."""
    refusal = None
    for steps in (2, 1):  # some configs allow only one step
        try:
            from_scheduler_config(config, steps, solver, image_tokens=4096)
        except ValueError as error:
            refusal = refusal or str(error)
        else:
            return None
    return refusal
