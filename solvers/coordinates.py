"""Changes of variable in which the probability-flow ODE is smooth and simple for every schedule."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from .grid import Grid, Point, point_at
from .schedule import RectifiedFlow, Schedule


@dataclass(frozen=True)
class Frame:
    """Change of variable z = x / scale with time u, in which dz/du is a network prediction.

        edm:   scale = alpha,          u = sigma / alpha,            dz/du = eps
        flow:  scale = alpha + sigma,  u = sigma / (alpha + sigma),  dz/du = eps - x0

    "edm" is Karras et al. 2022 (arXiv 2206.00364), eq. 4 with s = 1. "flow" also holds at alpha = 0.

    Attributes:
        name: "edm" or "flow".
        prediction: the prediction type that equals dz/du.
    """

    name: str
    prediction: str

    def scale(self, point: Point) -> float:
        """Returns the factor by which x is divided at a point."""
        return point.alpha if self.name == "edm" else point.alpha + point.sigma

    def u(self, point: Point) -> float:
        """Returns the frame's time at a point."""
        return point.sigma / self.scale(point)

    def point(self, schedule: Schedule, u: float) -> Point:
        """Returns the point of the schedule at time u."""
        ratio = u if self.name == "edm" else u / (1 - u)
        return point_at(schedule, time_at_ratio(schedule, ratio))


EDM_FRAME: Final = Frame("edm", "epsilon")
FLOW_FRAME: Final = Frame("flow", "flow_prediction")
EDM_LIMIT: Final = 1000.0
"""Largest sigma/alpha at a grid's start for which the edm frame is the default.

The error of an edm step grows with sigma/alpha at its start. Published grids start at 700 or less, except tables of
terminal SNR (almost) zero: 4096 in Diffusers, 20291 on the cosine table.
"""
FRAMES: Final = {"edm": EDM_FRAME, "flow": FLOW_FRAME}


def time_at_ratio(schedule: Schedule, ratio: float) -> float:
    """Returns the t at which sigma/alpha equals `ratio`."""
    return float(schedule.t_from_log_snr(-math.log(ratio)))


def frame_of(grid: Grid, name: str | None) -> Frame:
    """Returns the frame `name`; None selects flow for rectified flow and for grids from near alpha = 0, else edm.

    Raises:
        ValueError: if the name is unknown, or for edm on a grid that starts at pure noise.
    """
    if name is None:
        return FLOW_FRAME if starts_near_noise(grid) or isinstance(grid.schedule, RectifiedFlow) else EDM_FRAME
    if name not in FRAMES:
        raise ValueError(f"unknown frame {name!r}; known are {', '.join(FRAMES)}")
    if name == "edm" and grid.noisiest.pure_noise:
        where = "ends" if grid.rises else "starts"
        raise ValueError(
            f"frame 'edm' divides by alpha, and the grid {where} at alpha = {grid.noisiest.alpha:.3g}; use frame 'flow'"
        )
    return FRAMES[name]


def starts_near_noise(grid: Grid) -> bool:
    """Whether sigma/alpha at the noisy end is so large that steps in sigma/alpha, or in eps, are inaccurate."""
    noisiest = grid.noisiest
    return noisiest.sigma > EDM_LIMIT * noisiest.alpha


class InFrame:
    """Mixin of solvers that integrate dz/du in a frame; `frame` is its name, or None as in `frame_of`."""

    grid: Grid
    frame: str | None

    @cached_property
    def _frame(self) -> Frame:
        return frame_of(self.grid, self.frame)

    @property
    def output_type(self) -> str:
        """Prediction type of the outputs in the history."""
        return self._frame.prediction


def node_at(grid: Grid, index: int) -> Point:
    """Returns the node at a grid point; clean data, where the network is not evaluated, is returned as a `Point`."""
    if index < grid.n_steps:
        return grid.nodes[index]
    return grid.points[index] if grid.points[index].sigma == 0 else grid.node(grid.points[index])
