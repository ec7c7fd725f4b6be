"""Adams-Bashforth on the grid's actual nodes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from .coordinates import InFrame, node_at
from .grid import Node
from .linear import LinearSolver, Update, first_order, output_update
from .planned import Plan, Planned
from .polynomials import adams_weights
from .runge_kutta import TABLEAUS, stages

# Method of the first steps; its local error is at most h^order, so the start keeps the order.
_STARTERS: Final = {2: "euler", 3: "heun", 4: "kutta3"}
_STARTS: Final = ("runge-kutta", "lower-order")
_LASTS: Final = ("euler", "adams")


@dataclass(frozen=True, eq=False)
class AdamsBashforth(Planned, InFrame, LinearSolver):
    """Adams-Bashforth of order 2 to 4 on dz/du in a frame (see `coordinates.py`).

        z' = z + sum_j w_j f_j,    w_j = int_u^u' l_j(u) du

    f_j is dz/du at the j-th last grid point and l_j the Lagrange polynomial of the grid's own nodes. In the edm frame
    with `start_by="lower-order"` this is k-diffusion's LMS, and the method that iPNDM-v describes (Zhang & Chen 2022,
    arXiv 2204.13902).

    Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, section III.5.

    Attributes:
        grid: the points that the trajectory visits.
        solver_order: 2 to 4.
        frame: "edm" or "flow"; None selects flow for rectified flow and for grids that start near alpha = 0.
        start_by: "runge-kutta" makes the first step of order 3 by Heun, and the first two of order 4 by Kutta's
            third-order method, at 1 and 4 extra evaluations. "lower-order" uses fewer slopes.
        last_by: how a step that ends at sigma = 0 is made: "euler" ends at the last x0, "adams" extrapolates beyond it.

    Raises:
        ValueError: if an option is unknown.
    """

    solver_order: int = 2
    frame: str | None = "flow"
    start_by: str = "runge-kutta"
    last_by: str = "euler"

    def __post_init__(self) -> None:
        if self.solver_order not in _STARTERS:
            raise ValueError(f"AdamsBashforth has orders 2, 3 and 4, got solver_order={self.solver_order}")
        for name, value, known in (("start_by", self.start_by, _STARTS), ("last_by", self.last_by, _LASTS)):
            if value not in known:
                raise ValueError(f"unknown AdamsBashforth.{name} {value!r}; known are {', '.join(known)}")

    @property
    def order(self) -> int:
        """Order of convergence of the global error."""
        return self.solver_order

    @cached_property
    def _plan(self) -> Plan:
        starter = TABLEAUS[_STARTERS[self.solver_order]]
        nodes: list[Node] = []
        updates: list[Update] = []
        evaluation: list[int] = []  # index of the evaluation at each grid point
        for index, start in enumerate(self.grid.nodes):
            evaluation.append(len(nodes))
            if index < self.solver_order - 2 and self.start_by == "runge-kutta":
                of_step = stages(self.grid, self._frame, starter, start, node_at(self.grid, index + 1))
                nodes += of_step[0]
                updates += of_step[1]
            else:
                nodes.append(start)
                updates.append(self._update(index, evaluation))
        return tuple(nodes), tuple(updates)

    def _update(self, index: int, evaluation: list[int]) -> Update:
        """Returns the multistep update of step `index`; `evaluation` is the evaluation of each grid point so far."""
        start, end = self.grid.nodes[index], self.grid.points[index + 1]
        if end.sigma == 0 and (self.last_by == "euler" or index == 0):
            return first_order(start, end)
        used = range(index, max(index - self.solver_order, -1), -1)
        u = [self._frame.u(self.grid.points[point]) for point in used]
        weights = adams_weights(u, u[0], self._frame.u(end))
        slopes = [0.0] * (evaluation[index] - evaluation[used[-1]] + 1)  # by age; stages inside a step keep 0
        for point, weight in zip(used, weights.tolist(), strict=True):
            slopes[evaluation[index] - evaluation[point]] = self._frame.scale(end) * weight
        keep = self._frame.scale(end) / self._frame.scale(start)
        return output_update(self.output_type, start, keep, tuple(slopes))
