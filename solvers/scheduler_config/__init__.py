"""Reads scheduler configs as published on the Hub into a schedule, a grid and a solver."""

from .config import SolverSetup, from_scheduler_config

__all__ = ["SolverSetup", "from_scheduler_config"]
