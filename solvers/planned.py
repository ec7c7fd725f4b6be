"""A mixin for solvers with evaluations inside a step."""

from functools import cached_property

from .grid import Grid, Node
from .linear import Update

Plan = tuple[tuple[Node, ...], tuple[Update, ...]]


class Planned:
    """Mixin of solvers whose nodes and updates are worked out together, step by step."""

    grid: Grid

    @cached_property
    def _plan(self) -> Plan:
        nodes: list[Node] = []
        updates: list[Update] = []
        for index in range(self.grid.n_steps):
            of_step = self._step(index)
            nodes += of_step[0]
            updates += of_step[1]
        return tuple(nodes), tuple(updates)

    def _step(self, index: int) -> tuple[list[Node], list[Update]]:
        """Returns the nodes and updates of the step from grid point `index` to the next."""
        raise NotImplementedError

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Points at which the network is evaluated, in order."""
        return self._plan[0]

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        return self._plan[1]
