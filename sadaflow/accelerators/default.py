"""The accelerator of commands that name none: it steps aside where it does not fit."""

from typing import Final

import torch

from sadaflow.solvers import Solver

from .registry import make_accelerator

DEFAULT: Final = "sada"
_SHAPE: Final = torch.Size((1, 1, 8, 8))  # of no importance to whether it fits


def refusal(name: str, solver: Solver) -> str | None:
    """Why the accelerator `name` cannot be used with `solver` (too few steps, a solver that returns to earlier times);
    None if it can."""
    try:
        make_accelerator(name).begin(solver, _SHAPE, seams=True)
    except ValueError as error:
        return str(error)
    return None
