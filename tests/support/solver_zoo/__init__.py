"""Wrong solvers that a researcher could write, each with the law that must catch it, and right ones of many kinds."""

from . import data, formulas, loops, nodes, state, stochastic, tensors, velocities
from .kinds import RIGHT, WRONG, Right, Wrong

from . import right  # isort: skip

__all__ = [
    "RIGHT", "WRONG", "Right", "Wrong", "data", "formulas", "loops", "nodes", "right", "state", "stochastic",
    "tensors", "velocities",
]  # fmt: skip
