"""Gradient estimation: Euler steps along an extrapolated slope (Permenter & Yuan 2023, arXiv 2306.04848)."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from .coordinates import InFrame
from .linear import LinearSolver, Update, first_order, output_update


@dataclass(frozen=True, eq=False)
class GradientEstimation(InFrame, LinearSolver):
    """Euler's method with the slope pushed away from the previous one.

        z' = z + (u' - u) (gamma f + (1 - gamma) f_previous)

    f is dz/du in a frame (see `coordinates.py`): eps in the edm frame, as published, and eps - x0 in the flow frame.
    gamma = 1 is Euler's method, and 3/2 Adams-Bashforth of order 2 on equal steps; the published 2 is chosen for few
    steps of a trained network, and is of order 1. The first step, and one to sigma = 0, is Euler's.

    Source: Permenter & Yuan 2023, arXiv 2306.04848.

    Attributes:
        grid: the points that the trajectory visits.
        gamma: weight of the newest slope, 1 or more.
        frame: "edm" or "flow"; None selects flow for rectified flow and for grids that start near alpha = 0.

    Raises:
        ValueError: if `gamma` is below 1 or not finite.
    """

    gamma: float = 2.0
    frame: str | None = None
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 1 <= self.gamma < math.inf:
            raise ValueError(f"GradientEstimation.gamma must be 1 or more and finite, got {self.gamma}")

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        first, *others = [first_order(start, end) for start, end in pairwise(self.grid.points)]
        for index, end in enumerate(self.grid.points[2:]):
            if end.sigma > 0:
                others[index] = self._update(index + 1)
        return (first, *others)

    def _update(self, index: int) -> Update:
        start, end = self.grid.points[index : index + 2]
        frame = self._frame
        reach = frame.scale(end) * (frame.u(end) - frame.u(start))
        keep = frame.scale(end) / frame.scale(start)
        return output_update(
            self.output_type, self.grid.nodes[index], keep, (reach * self.gamma, reach * (1 - self.gamma))
        )
