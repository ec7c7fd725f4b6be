"""Explicit Runge-Kutta methods (Heun, midpoint and others), with the churn of EDM."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from torch import Tensor

from .base import State
from .coordinates import EDM_FRAME, Frame, InFrame, node_at
from .grid import Grid, Node, Point
from .linear import NoisySolver, Update, first_order, output_update, scaled_with_noise
from .planned import Plan, Planned


@dataclass(frozen=True)
class Tableau:
    """Butcher tableau of an explicit method.

    Attributes:
        order: order of convergence.
        nodes: position of each stage in the step, from 0 to 1.
        rows: `rows[j-1]` weights slopes 0 .. j-1 at stage j; the last row makes the step.
    """

    order: int
    nodes: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]


TABLEAUS: Final = {
    "euler": Tableau(1, (0.0,), ((1.0,),)),
    "heun": Tableau(2, (0.0, 1.0), ((1.0,), (1 / 2, 1 / 2))),
    "midpoint": Tableau(2, (0.0, 1 / 2), ((1 / 2,), (0.0, 1.0))),
    "kutta3": Tableau(3, (0.0, 1 / 2, 1.0), ((1 / 2,), (-1.0, 2.0), (1 / 6, 2 / 3, 1 / 6))),
    "rk4": Tableau(
        4, (0.0, 1 / 2, 1 / 2, 1.0), ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
    ),
}


@dataclass(frozen=True)
class Churn:
    """Noise added at the start of a step, with sigma/alpha raised to match.

    In steps with low <= sigma/alpha <= high, sigma/alpha is multiplied by 1 + min(amount / steps, sqrt(2) - 1).

    Source: Karras et al. 2022, arXiv 2206.00364, Algorithm 2.

    Attributes:
        amount: S_churn, 0 or more.
        low: S_tmin.
        high: S_tmax.
        scale: S_noise, the standard deviation of the noise, 0 or more.

    Raises:
        ValueError: if `amount` or `scale` is negative.
    """

    amount: float
    low: float = 0.0
    high: float = math.inf
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.amount >= 0 or not 0 <= self.scale < math.inf:
            raise ValueError(f"Churn needs amount and finite scale of 0 or more, got {self.amount} and {self.scale}")

    def factor(self, ratio: float, steps: int) -> float:
        """Returns the factor by which sigma/alpha = `ratio` is raised in a run of `steps` steps."""
        return 1 + min(self.amount / steps, math.sqrt(2) - 1) if self.low <= ratio <= self.high else 1.0


def stages(grid: Grid, frame: Frame, tableau: Tableau, start: Node, end: Point) -> tuple[list[Node], list[Update]]:
    """Returns the nodes and updates of one Runge-Kutta step from `start` to `end`.

    A step that ends at sigma = 0 is Euler's. A stage at the end of the step is evaluated at `end` itself if that is a
    node.

    Args:
        grid: gives the timesteps of nodes between its points.
        frame: the variables in which the method is applied.
        tableau: the method.
        start: start of the step.
        end: end of the step.
    """
    if end.sigma == 0:
        return [start], [first_order(start, end)]
    u, h = frame.u(start), frame.u(end) - frame.u(start)
    nodes: list[Node] = [start]
    for at in tableau.nodes[1:]:
        if at == 1 and isinstance(end, Node):
            nodes.append(end)
        else:
            nodes.append(grid.node(frame.point(grid.schedule, u + at * h)))
    updates = []
    for stage, (node, target) in enumerate(zip(nodes, [*nodes[1:], end], strict=True)):
        row = tableau.rows[stage]
        unused = next(index for index, weight in enumerate(row) if weight)  # the oldest slopes have weight 0
        slopes = tuple(frame.scale(target) * h * weight for weight in reversed(row[unused:]))
        carried = frame.scale(target) / frame.scale(start)
        if stage == 0:
            updates.append(replace(output_update(frame.prediction, node, carried, slopes), anchors=True))
        else:
            updates.append(replace(output_update(frame.prediction, node, 0.0, slopes), anchor=carried))
    return nodes, updates


@dataclass(frozen=True, eq=False)
class RungeKutta(Planned, InFrame, NoisySolver):
    """One-step method given by its Butcher tableau, applied to dz/du in a frame (see `coordinates.py`).

        k_j = f(z + h sum_i a_ji k_i, u + c_j h),    z' = z + h sum_j b_j k_j

    "heun" in the edm frame is Algorithm 1 of EDM, and with `churn` Algorithm 2; in the flow frame it is Heun's method
    on dx/dt. A step that ends at sigma = 0 is Euler's with one evaluation, so N steps of s stages to clean data take
    1 + s (N - 1) evaluations.

    Source: Karras et al. 2022, arXiv 2206.00364.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source, needed with `churn`.
        method: "euler", "heun", "midpoint", "kutta3" or "rk4".
        frame: "edm" or "flow"; None selects flow for rectified flow and for grids that start near alpha = 0.
        churn: noise added at the start of steps; None for the ODE.

    Raises:
        ValueError: if `method` is unknown, or with `churn` on a grid that starts near alpha = 0.
    """

    method: str = "heun"
    frame: str | None = None
    churn: Churn | None = None

    def __post_init__(self) -> None:
        if self.method not in TABLEAUS:
            raise ValueError(f"unknown Runge-Kutta method {self.method!r}; known are {', '.join(TABLEAUS)}")
        self._require_falling(self.churn is not None)
        if self.churn is not None and self.grid.points[0].pure_noise:
            raise ValueError(
                "churn multiplies sigma/alpha, which has no finite size where this grid starts "
                f"(alpha = {self.grid.points[0].alpha:.3g})"
            )

    @property
    def order(self) -> int:
        """Order of convergence of the global error."""
        return TABLEAUS[self.method].order

    @cached_property
    def _starts(self) -> tuple[Node, ...]:
        """Start of each step: the grid's points, at a higher noise level where there is churn."""
        if self.churn is None:
            return self.grid.nodes
        starts = []
        for node in self.grid.nodes:
            ratio = node.sigma / node.alpha
            factor = self.churn.factor(ratio, self.grid.n_steps)
            raised = self.grid.node(EDM_FRAME.point(self.grid.schedule, factor * ratio)) if factor > 1 else node
            starts.append(raised)
        return tuple(starts)

    @cached_property
    def _plan(self) -> Plan:
        nodes: list[Node] = []
        updates: list[Update] = []
        for index, start in enumerate(self._starts):
            of_step = stages(self.grid, self._frame, TABLEAUS[self.method], start, node_at(self.grid, index + 1))
            nodes += of_step[0]
            updates += of_step[1]
            if index + 1 < self.grid.n_steps:
                updates[-1] = self._churned(updates[-1], index + 1)
        return tuple(nodes), tuple(updates)

    def _churned(self, update: Update, index: int) -> Update:
        """Continues the update that reaches point `index` to the noisier start of the next step."""
        carried, added = self._raise(index)
        if added == 0:
            return update
        return scaled_with_noise(update, carried, added, self._span(index))

    def _raise(self, index: int) -> tuple[float, float]:
        """Returns the factors of x and of the noise that lead from point `index` to the start of its step."""
        point, start = self.grid.nodes[index], self._starts[index]
        if self.churn is None or start is point:
            return 1.0, 0.0
        spread = math.sqrt((start.sigma / start.alpha) ** 2 - (point.sigma / point.alpha) ** 2)
        return start.alpha / point.alpha, start.alpha * self.churn.scale * spread

    def _span(self, index: int) -> tuple[float, float]:
        points = self.grid.points
        return points[index].noise_fraction, points[index + 1].noise_fraction

    def start(self, noise: Tensor) -> State:
        """Returns the state at evaluation 0 for unit-normal noise (B, ...), churned if the first step is."""
        x = noise * self.grid.start_scale
        carried, added = self._raise(0)
        return State(x if added == 0 else carried * x + added * self.draw(0, self._span(0), x))
