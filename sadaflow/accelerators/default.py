"""The accelerator that commands use by default, and whether an accelerator fits a solver."""

from typing import Final

import torch

from sadaflow.solvers import Solver

from .registry import make_accelerator

AUTO: Final = "auto"
DEFAULT: Final = AUTO
_SHAPE: Final = torch.Size((1, 1, 8, 8))  # whether an accelerator fits does not depend on it


def refusal(name: str, solver: Solver) -> str | None:
    """Why an accelerator cannot be used with a solver: too few steps, or a solver that returns to earlier times.

    Returns:
        The reason; None if it can be used.
    """
    try:
        make_accelerator(name).begin(solver, _SHAPE, seams=True)
    except ValueError as error:
        return str(error)
    return None
