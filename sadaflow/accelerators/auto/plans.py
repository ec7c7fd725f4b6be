"""Plans of `Auto` at low cost: sets of evaluated steps, and a linear multistep method fitted to each.

With few evaluations the state at the next one is a weighted sum of the first state and of every x0 evaluated so far, as
in any linear multistep solver (DPM-Solver++, UniPC and DEIS are such sums on their own steps). The weights are those of
the least squares: on a calibration's samples the states come closest to those of the plain run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from ..history import Array

RIDGE: Final = 1e-6  # over the mean square of each value; against the rounding of the stored products


@dataclass(frozen=True)
class Plan:
    """A set of evaluated steps with what was measured on runs that follow it.

    The values are the first state, the x0 of the first evaluation, and the changes of x0 from each evaluation to the
    next, which are small where x0 hardly moves. Products are means over samples and elements.

    Attributes:
        nodes: Indices of the n evaluated steps, rising from 0.
        products: Products of all pairs of values; row i holds those with values 0 to i. n + 1 rows.
        targets: Products of each value with the x0 that the plain run has at every step, (n + 1, N).
    """

    nodes: tuple[int, ...]
    products: tuple[tuple[float, ...], ...]
    targets: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        count = len(self.nodes) + 1
        steps = {len(row) for row in self.targets}
        if [len(row) for row in self.products] != list(range(1, count + 1)) or len(self.targets) != count:
            raise ValueError(f"a plan of {count - 1} evaluations must have the products of {count} values")
        rising = self.nodes[:1] == (0,) and all(a < b for a, b in zip(self.nodes, self.nodes[1:], strict=False))
        if len(steps) != 1 or not rising or self.nodes[-1] >= min(steps):
            raise ValueError(f"the steps of a plan must rise from 0 to below the number of steps, got {self.nodes}")
        if not np.isfinite(np.concatenate([np.concatenate(self.products), np.concatenate(self.targets)])).all():
            raise ValueError("the products of a plan must be finite")

    def weights(self) -> Array:
        """Weights after each evaluation whose sum predicts the plain run's x0 at every step.

        Returns:
            Weights of the evaluated x0, newest first, then of the first state, then 0: (n, N, n + 1).
        """
        full, targets = self._full(), np.array(self.targets)
        found = np.zeros((len(self.nodes), targets.shape[1], len(full)))
        for index in range(len(self.nodes)):
            known = index + 2
            found[index, :, :known] = _of_x0(_least_squares(full[:known, :known], targets[:known]).T)
        return found

    def forecast(self, index: int) -> Array:
        """Weights before an evaluation that predict its x0: of the x0 so far, newest first, and the first state."""
        full, known = self._full(), index + 1
        found = _of_x0(_least_squares(full[:known, :known], full[:known, known]))
        if index:
            found[0] += 1  # what was predicted is the change from the newest x0
        return found

    def _full(self) -> Array:
        lower = np.zeros((len(self.products), len(self.products)))
        for row, known in enumerate(self.products):
            lower[row, : row + 1] = known
        full: Array = lower + np.tril(lower, -1).T
        return full


def _least_squares(products: Array, targets: Array) -> Array:
    """Weights of values from their products (n, n) and their products with what they predict, (n, ...)."""
    from scipy.linalg import solve  # slow to import

    found: Array = solve(products + RIDGE * np.diag(products.diagonal()), targets, assume_a="pos")
    return found


def _of_x0(weights: Array) -> Array:
    """Weights of the x0, newest first, and of the first state, from those of the values of a `Plan`, (..., n)."""
    found = weights[..., ::-1].copy()
    found[..., 1:-1] -= weights[..., :1:-1]
    return found


@dataclass(frozen=True)
class Fork:
    """Plans that begin with the same evaluations, after which each sample takes one of them by its error.

    Attributes:
        shared: Number of evaluations at the start that all plans have in common.
        plans: The plans, by rising number of evaluations, which rises evenly.
        usual: Mean, over a calibration's samples, of the logarithm of the root mean square error of x0 as predicted
            at the last shared evaluation.
        deviation: Standard deviation of this logarithm.
    """

    shared: int
    plans: tuple[Plan, ...]
    usual: float
    deviation: float

    def __post_init__(self) -> None:
        counts = self.counts
        if len({after - before for before, after in zip(counts, counts[1:], strict=False)}) > 1 or not counts:
            raise ValueError(f"the numbers of evaluations of the plans of a fork must rise evenly, got {counts}")
        starts = {plan.nodes[: self.shared] for plan in self.plans}
        if len(starts) > 1 or not 1 <= self.shared <= counts[0]:
            raise ValueError(f"the plans of a fork must share their first {self.shared} evaluations")
        if not (np.isfinite(self.usual) and self.deviation > 0):
            raise ValueError(f"the errors at a fork must be finite, got {self.usual} and {self.deviation}")

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of evaluations of each plan."""
        return tuple(len(plan.nodes) for plan in self.plans)

    @property
    def middle(self) -> float:
        """Number of evaluations of the plan in the middle."""
        return float(np.median(self.counts))

    def ranks(self, errors: Array) -> Array:
        """The share of a calibration's samples whose errors are smaller than `errors` (R,), from a normal law: (R,)."""
        from scipy.special import ndtr  # slow to import

        found: Array = ndtr((np.log(np.maximum(errors, 1e-30)) - self.usual) / self.deviation)
        return found

    def up_to(self, most: int | None) -> "Fork | None":
        """The fork without plans of more than `most` evaluations; None if nothing is left."""
        kept = tuple(plan for plan in self.plans if most is None or len(plan.nodes) <= most)
        return Fork(self.shared, kept, self.usual, self.deviation) if kept else None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON can hold them; numbers of a row are a text, which takes a line of a file."""
        plans = [
            {
                "nodes": _text(plan.nodes),
                "products": [*map(_text, plan.products)],
                "targets": [*map(_text, plan.targets)],
            }
            for plan in self.plans
        ]
        return {"shared": self.shared, "usual": self.usual, "deviation": self.deviation, "plans": plans}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Reads what `to_json` made; raises ValueError, TypeError, KeyError or AttributeError if it is malformed."""
        plans = tuple(
            Plan(tuple(map(int, plan["nodes"].split())), _rows(plan["products"]), _rows(plan["targets"]))
            for plan in content["plans"]
        )
        return cls(int(content["shared"]), plans, float(content["usual"]), float(content["deviation"]))


def _text(numbers: Sequence[float]) -> str:
    return " ".join(map(str, numbers))


def _rows(content: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row.split())) for row in content)


def shares(counts: Sequence[int], mean: float) -> Array:
    """Shares of the samples that take each plan, so that they make `mean` evaluations in the mean.

    At most two plans are taken: those with the next fewer and the next more evaluations. What is lost with fewer is
    more than what is gained with more, so that a wider spread loses.

    Args:
        counts: Number of evaluations of each plan, rising.
        mean: Evaluations asked for; the nearest of `counts` if it lies beyond them.
    """
    return np.array([np.interp(mean, counts, row) for row in np.eye(len(counts))])
