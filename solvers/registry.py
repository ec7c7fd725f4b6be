"""Solvers by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .base import GridSolver
from .dpmpp import DPMpp
from .euler import Euler
from .grid import Grid
from .plms import PLMS


@dataclass(frozen=True)
class Entry:
    """A solver class and the options that the name stands for."""

    solver: type[GridSolver]
    options: Mapping[str, Any] = field(default_factory=dict)


SOLVERS: Final[Mapping[str, Entry]] = {
    "euler": Entry(Euler),
    "ddim": Entry(Euler),
    "dpmpp1": Entry(DPMpp, {"solver_order": 1}),
    "dpmpp2m": Entry(DPMpp, {"solver_order": 2}),
    "dpmpp3m": Entry(DPMpp, {"solver_order": 3}),
    "plms": Entry(PLMS),
    "pndm": Entry(PLMS),
}


def known_solver(name: str) -> str:
    """`name` itself. Raises ValueError, listing the known ones, where there is no such solver."""
    if name not in SOLVERS:
        raise ValueError(f"unknown solver {name!r}; known are {', '.join(SOLVERS)}")
    return name


def make_solver(name: str, grid: Grid, **options: Any) -> GridSolver:
    """The solver called `name` over `grid`; options are fields of its class.

    Raises ValueError for an unknown name (lists the known ones) or value.
    """
    entry = SOLVERS[known_solver(name)]
    return entry.solver(grid, **{**entry.options, **options})
