"""Adams-Bashforth on the real, uneven nodes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from .coordinates import Frame, frame_of, node_at
from .grid import Node
from .linear import LinearSolver, Update, answered, first_order
from .polynomials import adams_weights
from .runge_kutta import TABLEAUS, stages

# A first step of this method, so that the start is as good as the rest: local error h^order at least.
_STARTERS: Final = {2: "euler", 3: "heun", 4: "kutta3"}
_STARTS: Final = ("runge-kutta", "lower-order")
_LASTS: Final = ("euler", "adams")


@dataclass(frozen=True, eq=False)
class AdamsBashforth(LinearSolver):
    """Adams-Bashforth of order 2 to 4 on dz/du in a frame (see `coordinates.py`), by default the flow frame.

    Weights are those of the grid's own nodes (Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I,
    section III.5). In the edm frame with a start of lower order this is k-diffusion's LMS, and what iPNDM-v is meant to
    be (Zhang & Chen 2022, arXiv 2204.13902).

    Args:
        solver_order: 2 to 4.
        frame: "edm" or "flow"; None takes flow for rectified flow and for grids that start at alpha = 0.
        start_by: "runge-kutta" makes the first step of order 3 by Heun, and the first two of order 4 by Kutta's
            third-order method, which costs 1 and 4 evaluations more than the steps. "lower-order" uses fewer slopes.
        last_by: how a step that ends at sigma = 0 is made: "euler" ends at the last x0, "adams" extrapolates past it.

    Raises:
        ValueError: if an argument has another value.
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
                raise ValueError(f"unknown {name} {value!r} of AdamsBashforth; known are {', '.join(known)}")

    @property
    def order(self) -> int:
        return self.solver_order

    @cached_property
    def _frame(self) -> Frame:
        return frame_of(self.grid, self.frame)

    @property
    def answer(self) -> str:
        return self._frame.answer

    @cached_property
    def _plan(self) -> tuple[tuple[Node, ...], tuple[Update, ...]]:
        starter = TABLEAUS[_STARTERS[self.solver_order]]
        nodes: list[Node] = []
        updates: list[Update] = []
        evaluation: list[int] = []  # of each point of the grid
        for index, start in enumerate(self.grid.nodes):
            evaluation.append(len(nodes))
            if index < self.solver_order - 2 and self.start_by == "runge-kutta":
                more = stages(self.grid, self._frame, starter, start, node_at(self.grid, index + 1))
                nodes += more[0]
                updates += more[1]
            else:
                nodes.append(start)
                updates.append(self._update(index, evaluation))
        return tuple(nodes), tuple(updates)

    def _update(self, index: int, evaluation: list[int]) -> Update:
        start, end = self.grid.nodes[index], self.grid.points[index + 1]
        if end.sigma == 0 and (self.last_by == "euler" or index == 0):
            return first_order(start, end)
        used = range(index, max(index - self.solver_order, -1), -1)
        u = [self._frame.u(self.grid.points[point]) for point in used]
        weights = adams_weights(u, u[0], self._frame.u(end))
        slopes = [0.0] * (evaluation[index] - evaluation[used[-1]] + 1)  # by age; evaluations inside a step stay 0
        for point, weight in zip(used, weights.tolist(), strict=True):
            slopes[evaluation[index] - evaluation[point]] = self._frame.scale(end) * weight
        return answered(self.answer, start, self._frame.scale(end) / self._frame.scale(start), tuple(slopes))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return self._plan[0]

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return self._plan[1]
