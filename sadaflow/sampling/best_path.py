"""The best set of evaluated steps by dynamic programming over pairs of evaluations."""

import numpy as np

from ..accelerators.history import Array
from .gap_costs import NO_STEP, GapCosts, Whole


def triple_costs(costs: GapCosts, max_skips: int) -> Array:
    """Costs of all gaps by the evaluation before the last, the last, and the next: (N + 1, N, N).

    Earlier evaluations, which some predictors use as well, are taken to be as far apart as those two. The first index N
    stands for no evaluation before the last. Gaps longer than `max_skips` are infinite, as are impossible orders.
    """
    steps = costs.steps
    before, last, following = (index.ravel() for index in np.indices((steps + 1, steps, steps)))
    valid = ((before < last) | (before == steps)) & (last < following) & (following - last - 1 <= max_skips)
    before, last, following = before[valid], last[valid], following[valid]
    spacing = np.where(before == steps, 0, last - before)
    nodes = last[:, None] - spacing[:, None] * np.arange(costs.nodes + 1)
    absent = (nodes < 0) | ((spacing[:, None] == 0) & (np.arange(costs.nodes + 1) > 0))
    made = np.full((steps + 1, steps, steps), np.inf)
    found = costs.gaps(np.where(absent, NO_STEP, nodes), following)
    made[before, last, following] = np.where(np.isnan(found), np.inf, found)  # nan: nothing but pure noise is known
    return made


def best_path(costs: Array, evaluations: int, first: int = 1) -> Whole:
    """The evaluated steps with the least sum of costs, exactly; the first `first` steps and the last are among them.

    Args:
        costs: Costs of triples, as from `triple_costs`, (N + 1, N, N).
        evaluations: Number of evaluated steps.
        first: Number of steps evaluated at the start, at least 1.

    Raises:
        ValueError: if no set has that number.
    """
    steps = costs.shape[1]
    least = np.full((steps + 1, steps), np.inf)  # by the last two evaluations, for the present number of them
    least[first - 2 if first > 1 else steps, first - 1] = sum(
        costs[step - 2 if step > 1 else steps, step - 1, step] for step in range(1, first)
    )
    came: list[Whole] = []
    for _ in range(evaluations - first):
        reached = least[:, :, None] + costs
        came.append(reached.argmin(axis=0))
        least = np.concatenate((reached.min(axis=0), np.full((1, steps), np.inf)))
    last = int(least[:, steps - 1].argmin())
    if evaluations < first or not np.isfinite(least[last, steps - 1]):
        raise ValueError(f"no set of {evaluations} of {steps} steps is possible with gaps of the allowed length")
    path = [steps - 1]
    for found in reversed(came):
        path.append(last)
        last = int(found[path[-1], path[-2]])
    rest = [step for step in range(first) if step not in path]
    return np.array(sorted({*path, *rest}), dtype=np.int64)


def moved(evaluated: Whole, steps: int, first: int, reach: int = 3) -> list[Whole]:
    """All sets in which one evaluated step is moved by at most `reach`; the first ones and the last stay."""
    taken, found = set(evaluated.tolist()), []
    for step in evaluated[first:-1].tolist():
        for other in range(max(first, step - reach), min(steps - 2, step + reach) + 1):
            if other not in taken:
                found.append(np.array(sorted(taken - {step} | {other}), dtype=np.int64))
    return found
