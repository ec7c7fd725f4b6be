"""Observers of a run: they see every step, and may edit it or stop the run."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import torch
from torch import Tensor

from .results import Step


class Stop(Enum):
    """Type of `STOP`."""

    STOP = "stop"


STOP: Final = Stop.STOP
"""What an observer returns to end the run with the x0 of the present step as its result."""


@dataclass(frozen=True, eq=False)
class Edit:
    """Changes of a step, for all samples of the batch; rows that are equal to those of the step are left to the bit.

    Attributes:
        x0: Replaces the x0 of the step, (B, ...). The solver takes the step again from the same states with it, and
            keeps it among its past outputs.
        x: Replaces the states after the step, (B, ...), at which the network is evaluated next. It takes effect after
            `x0`.
    """

    x0: Tensor | None = None
    x: Tensor | None = None


Reply = Edit | Stop | None
"""What an observer returns: None to go on."""

Observer = Callable[[Step], Reply]
"""Called after every step, under `torch.no_grad()`."""


def ask(observer: Observer, step: Step) -> Reply:
    """Calls an observer, and checks what it returns.

    Args:
        observer: The observer; what it raises is passed on.
        step: The step.

    Raises:
        ValueError: If it returns something else than a `Reply`, or if a tensor of an edit does not fit the batch or is
            not finite.
    """
    reply: Any = observer(step)
    if reply is None or reply is STOP:
        return reply
    if not isinstance(reply, Edit):
        raise ValueError(
            f"the observer returned a {type(reply).__name__} at {_place(step)}: return None to go on, Edit(x0=..., "
            "x=...) to change the step, or STOP"
        )
    for name, like in (("x0", step.x0), ("x", step.x)):
        value = getattr(reply, name)
        if value is not None:
            _check(f"Edit.{name} at {_place(step)}", value, like)
    return reply


def changed_rows(edited: Tensor | None, before: Tensor) -> list[int]:
    """Indices of the samples that an edit changes; it waits for the device.

    Args:
        edited: (B, ...), or None for no edit.
        before: (B, ...).
    """
    if edited is None:
        return []
    changed = (edited != before).flatten(1).any(dim=1).tolist()
    return [row for row, differs in enumerate(changed) if differs]


def _check(what: str, value: Any, like: Tensor) -> None:
    """Raises ValueError unless `value` is a finite tensor of the shape, dtype and device of the states."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{what} is a {type(value).__name__}, expected a tensor {tuple(like.shape)}")
    if value.shape != like.shape:
        raise ValueError(
            f"{what} has shape {tuple(value.shape)}, expected that of the whole batch, {tuple(like.shape)}: return the "
            "rows that stay as they are as well"
        )
    if (value.dtype, value.device) != (like.dtype, like.device):
        raise ValueError(f"{what} is {value.dtype} on {value.device}, expected {like.dtype} on {like.device}")
    finite = torch.isfinite(value).flatten(1).all(dim=1).tolist()
    if not all(finite):
        bad = [row for row, good in enumerate(finite) if not good]
        raise ValueError(f"{what} holds NaN or infinity for samples {bad}")


def _place(step: Step) -> str:
    return f"step {step.index} of {step.total} (t={step.t:.4g})"
