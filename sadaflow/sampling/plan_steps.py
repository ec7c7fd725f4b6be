"""Searches sets of evaluated steps for a fitted multistep method, from plain trajectories alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from sadaflow.solvers import Solver

from ..accelerators.auto.linear_states import linear_states
from ..accelerators.auto.plans import RIDGE
from ..accelerators.history import Array

STATES: Final = (0.1, 0.3, 1.0)
"""Weights of the errors of the states between, of which the best is found by following sets (docs/auto.md)."""
_REACH: Final = 4  # steps by which an evaluation is moved at a time


@dataclass(frozen=True)
class PlanCosts:
    """What a set of evaluated steps loses, if every state is the least-squares sum of the values before it.

    Attributes:
        values: Products of the values, the first state and x0 of every step, (N + 1, N + 1).
        shared: Products of the values with the states of steps 0 to N, (N + 1, N + 1).
        squares: Mean squares of these states, (N + 1,).
        gains: Squared change of the end per squared error of each state, (N + 1,).
    """

    values: Array
    shared: Array
    squares: Array
    gains: Array

    @classmethod
    def of(cls, solver: Solver, products: Array, gains: Sequence[float]) -> Self:
        """The costs on a solver's steps.

        Args:
            solver: The solver, linear and without noise.
            products: Products of the first state and of x0 at every step in plain runs, means, (N + 1, N + 1).
            gains: Change of the end per error of x0 at each step, (N,).
        """
        states = np.stack([weights[0] for weights in linear_states(solver)])
        shared = products @ states.T
        entering = np.diagonal(states[1:, 1:])  # weight of the last x0 in each state but the first
        of_states = np.append(np.array(gains) / np.abs(entering), 1.0)[1:]
        return cls(products, shared, (states * shared.T).sum(axis=1), np.append(0.0, of_states**2))

    def cost(self, nodes: Sequence[int], between: float) -> float:
        """Squared error of the end of runs that evaluate some steps, and of the states between times what it changes.

        Args:
            nodes: The evaluated steps, which rise from 0.
            between: Weight of the errors of the states between.
        """
        from scipy.linalg import cholesky, solve_triangular  # slow to import

        known = [0, *[step + 1 for step in nodes]]
        ends = [*nodes[1:], len(self.gains) - 1]
        values = self.values[np.ix_(known, known)]
        ridge = RIDGE * values.trace() / len(values) * np.eye(len(values))
        root = cholesky(values + ridge, lower=True, check_finite=False)
        explained = solve_triangular(root, self.shared[np.ix_(known, ends)], lower=True, check_finite=False) ** 2
        left = self.squares[ends] - np.diagonal(explained.cumsum(axis=0)[1:])
        errors = self.gains[ends] * np.maximum(left, 0.0)
        return float(between * errors[:-1].sum() + errors[-1])

    def searched(self, evaluations: int, between: float, fixed: Sequence[int] = (0,)) -> tuple[int, ...]:
        """The set from which no move of one evaluation is better, starting from even distances.

        Args:
            evaluations: Number of evaluated steps.
            between: See `cost`.
            fixed: The first of them, from 0 on, which stay.
        """
        steps = len(self.gains) - 1
        rest = np.linspace(fixed[-1], steps, evaluations - len(fixed) + 2)[1:-1]
        best = tuple(fixed) + _apart(np.rint(rest).astype(int).tolist(), fixed[-1], steps)
        least = self.cost(best, between)
        while True:
            others = {other for other in _moved(best, len(fixed), steps)}
            costs = {other: self.cost(other, between) for other in sorted(others)}
            found = min(costs, key=lambda other: costs[other], default=best)
            if costs.get(found, least) >= least * (1 - 1e-6):
                return best
            best, least = found, costs[found]


def _apart(steps: Sequence[int], before: int, end: int) -> tuple[int, ...]:
    """Steps that rise by one at least, from after `before` to before `end`."""
    found = list(steps)
    for index in range(len(found)):
        found[index] = max(found[index], (found[index - 1] if index else before) + 1)
    for index in reversed(range(len(found))):
        found[index] = min(found[index], end - (len(found) - index))
    return tuple(found)


def _moved(nodes: tuple[int, ...], fixed: int, steps: int) -> list[tuple[int, ...]]:
    """All sets in which one evaluation, not one of the first `fixed`, is moved past no other."""
    found = []
    for index in range(fixed, len(nodes)):
        after = nodes[index + 1] if index + 1 < len(nodes) else steps
        low, high = max(nodes[index - 1] + 1, nodes[index] - _REACH), min(after - 1, nodes[index] + _REACH)
        others = (step for step in range(low, high + 1) if step != nodes[index])
        found += [(*nodes[:index], step, *nodes[index + 1 :]) for step in others]
    return found
