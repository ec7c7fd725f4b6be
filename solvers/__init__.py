"""Noise schedules, grids and solvers of the probability-flow ODE: pure numerics, no network."""

if not __name__.startswith("sadaflow."):
    raise ImportError("import this package as 'sadaflow.solvers'")

from .base import GridSolver, LinearMultistep, Solver, State, Update
from .betas import BETA_SCHEDULES, make_betas, zero_terminal_snr
from .config import SolverSetup, from_scheduler_config
from .dpmpp import DPMpp
from .euler import Euler
from .grid import Grid, Node
from .plms import PLMS
from .prediction import PREDICTIONS, from_x0, to_x0
from .registry import SOLVERS, make_solver
from .schedule import EDM, RectifiedFlow, Schedule, VPDiscrete

__all__ = [
    "BETA_SCHEDULES",
    "EDM",
    "PLMS",
    "PREDICTIONS",
    "SOLVERS",
    "DPMpp",
    "Euler",
    "Grid",
    "GridSolver",
    "LinearMultistep",
    "Node",
    "RectifiedFlow",
    "Schedule",
    "Solver",
    "SolverSetup",
    "State",
    "Update",
    "VPDiscrete",
    "from_scheduler_config",
    "from_x0",
    "make_betas",
    "make_solver",
    "to_x0",
    "zero_terminal_snr",
]
