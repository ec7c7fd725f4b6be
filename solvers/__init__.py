"""Noise schedules, grids and solvers of the probability-flow ODE: pure numerics, no network."""

if not __name__.startswith("sadaflow."):
    raise ImportError("import this package as 'sadaflow.solvers'")

from .base import GridSolver, LinearMultistep, Solver, State, Update
from .betas import BETA_SCHEDULES, make_betas, zero_terminal_snr
from .grid import Grid, Node
from .prediction import PREDICTIONS, from_x0, to_x0
from .schedule import EDM, RectifiedFlow, Schedule, VPDiscrete

__all__ = [
    "BETA_SCHEDULES",
    "EDM",
    "PREDICTIONS",
    "Grid",
    "GridSolver",
    "LinearMultistep",
    "Node",
    "RectifiedFlow",
    "Schedule",
    "Solver",
    "State",
    "Update",
    "VPDiscrete",
    "from_x0",
    "make_betas",
    "to_x0",
    "zero_terminal_snr",
]
