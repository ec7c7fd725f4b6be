"""Heun++: slopes at the next two grid points, weighted by their noise levels."""

from dataclasses import dataclass, replace
from typing import ClassVar

from .coordinates import InFrame, node_at
from .grid import Node
from .linear import LinearSolver, Update, first_order, output_update
from .planned import Planned


@dataclass(frozen=True, eq=False)
class HeunPP2(Planned, InFrame, LinearSolver):
    """Step along a weighted mean of the slopes at this grid point and at the next two, which Euler's method reaches.

        f  = (1 - w_1 - w_2) f_0 + w_1 f_1 + w_2 f_2,    w_j = u_j / (3 u_start)
        z' = z + (u_1 - u_0) f

    u is the time of a frame (see `coordinates.py`), sigma/alpha in the edm frame, and u_start that of the first grid
    point. Where only one more point is left before the end, or before clean data, f has two slopes with
    w_1 = u_1 / (2 u_start); a step to sigma = 0 is Euler's. N steps to clean data take 3N - 3 evaluations. The weights
    do not depend on the length of the step, so the order is 1.

    Source: the sampler known as heunpp2, after Heun's method in Karras et al. 2022, arXiv 2206.00364.

    Attributes:
        grid: the points that the trajectory visits.
        frame: "edm" or "flow"; None selects flow for rectified flow and for grids that start near alpha = 0.

    Raises:
        ValueError: on a rising grid, where the weights would exceed 1.
    """

    frame: str | None = None
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self.grid.require_falling("HeunPP2", "its weights are noise levels relative to the first")

    def _step(self, index: int) -> tuple[list[Node], list[Update]]:
        """Returns the nodes and updates of the step from grid point `index` to the next."""
        start, end = self.grid.nodes[index], self.grid.points[index + 1]
        if end.sigma == 0:
            return [start], [first_order(start, end)]
        ahead = [node_at(self.grid, at) for at in (index + 1, index + 2) if at <= self.grid.n_steps]
        nodes = [start, *(node for node in ahead if isinstance(node, Node))]
        frame, whole = self._frame, len(nodes) * self._frame.u(self.grid.points[0])
        later = [frame.u(node) / whole for node in nodes[1:]]
        reach = frame.scale(end) * (frame.u(end) - frame.u(start))
        slopes = [reach * weight for weight in (1 - sum(later), *later)]
        updates = []
        for here, there in zip(nodes, nodes[1:], strict=False):  # Euler's steps from node to node
            keep, move = frame.scale(there) / frame.scale(here), frame.scale(there) * (frame.u(there) - frame.u(here))
            updates.append(output_update(self.output_type, here, keep, (move,)))
        updates[0] = replace(updates[0], anchors=True)
        last = output_update(self.output_type, nodes[-1], 0.0, tuple(slopes[::-1]))
        return nodes, [*updates, replace(last, anchor=frame.scale(end) / frame.scale(start))]
