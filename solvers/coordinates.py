"""Scaled frames in which the probability-flow ODE is smooth and simple, whatever the schedule."""

import math
from dataclasses import dataclass
from typing import Final

from .grid import Grid, Point, point_at
from .schedule import RectifiedFlow, Schedule


@dataclass(frozen=True)
class Frame:
    """z = x / scale, a function of time u, moves with dz/du = the network's answer of prediction kind `answer`.

    "edm": scale alpha, u = sigma/alpha, dz/du = eps (Karras et al. 2022, arXiv 2206.00364, eq. 4 with s = 1).
    "flow": scale alpha + sigma, u = sigma/(alpha + sigma), dz/du = eps - x0; it holds at alpha = 0 too.
    """

    name: str
    answer: str

    def scale(self, point: Point) -> float:
        return point.alpha if self.name == "edm" else point.alpha + point.sigma

    def u(self, point: Point) -> float:
        return point.sigma / self.scale(point)

    def point(self, schedule: Schedule, u: float) -> Point:
        """The point of the schedule at time u."""
        ratio = u if self.name == "edm" else u / (1 - u)
        return point_at(schedule, time_at_ratio(schedule, ratio))


EDM_FRAME: Final = Frame("edm", "epsilon")
FLOW_FRAME: Final = Frame("flow", "flow_prediction")
FRAMES: Final = {"edm": EDM_FRAME, "flow": FLOW_FRAME}


def time_at_ratio(schedule: Schedule, ratio: float) -> float:
    """The t at which sigma/alpha has the given value."""
    return float(schedule.t_from_log_snr(-math.log(ratio)))


def frame_of(grid: Grid, name: str | None) -> Frame:
    """The frame called `name`; None takes flow for rectified flow and grids that start at alpha = 0, else edm.

    Raises ValueError for an unknown name, and for edm on a grid that starts at alpha = 0.
    """
    pure_noise = grid.points[0].alpha == 0
    if name is None:
        return FLOW_FRAME if pure_noise or isinstance(grid.schedule, RectifiedFlow) else EDM_FRAME
    if name not in FRAMES:
        raise ValueError(f"unknown frame {name!r}; known are {', '.join(FRAMES)}")
    if name == "edm" and pure_noise:
        raise ValueError("frame 'edm' divides by alpha, and the grid starts at alpha = 0; use frame 'flow'")
    return FRAMES[name]


def node_at(grid: Grid, index: int) -> Point:
    """The node at a point of the grid, the last included; clean data, which is not evaluated, is a bare point."""
    if index < grid.n_steps:
        return grid.nodes[index]
    return grid.points[index] if grid.points[index].sigma == 0 else grid.node(grid.points[index])
