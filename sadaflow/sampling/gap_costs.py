"""What it costs to skip steps between two evaluations, from plain trajectories alone.

Every predictor of `accelerators.predictors` is linear, so its squared error on a recorded trajectory follows from the
inner products of the values at all pairs of steps. No network is run, and no trajectory is kept.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sadaflow.solvers import Prediction, Solver, from_x0, to_x0

from ..accelerators.auto.error_model import Gaps
from ..accelerators.history import Array
from ..accelerators.predictors import PREDICTORS, Weights, positions

Whole = NDArray[np.int64]
NO_STEP: Final = -1
"""In place of a step, where there is none."""


def inner_products(outputs: Tensor) -> Array:
    """Mean over samples of the inner products of a trajectory's values, per element: (N, N).

    Args:
        outputs: The values of a batch at every step, (N, B, ...).
    """
    flat = outputs.flatten(2).double().transpose(0, 1)
    products: Array = (flat @ flat.transpose(1, 2) / flat.shape[2]).mean(dim=0).cpu().numpy()
    return products


def outputs_of(solver: Solver, variable: Prediction, states: Tensor, x0: Tensor) -> Tensor:
    """The values of prediction type `variable` along a trajectory of states and x0, all (N, B, ...)."""
    parts = zip(solver.nodes, states, x0, strict=True)
    return torch.stack([from_x0(variable, clean, x, node.alpha, node.sigma) for node, x, clean in parts])


@dataclass(frozen=True)
class GapCosts:
    """Errors of skipped steps, and the costs of gaps, for one predictor on the steps of one solver.

    Attributes:
        products: Inner products of the predicted values at all pairs of steps, mean over samples, (N, N).
        gains: Change of the final sample per error of the predicted value at each step, (N,).
        at: Position of each step on the predictor's axis, (N,).
        nodes: Number of values that the predictor uses.
        weights: Its weights beyond the last evaluation.
        between: Its weights between two evaluations; None if skipped steps are not taken again.
    """

    products: Array
    gains: Array
    at: Array
    nodes: int
    weights: Weights
    between: Weights | None

    @classmethod
    def of(
        cls,
        solver: Solver,
        products: Array,
        predictor: str,
        *,
        correct: bool,
        variable: Prediction = "x0",
        gains: Array | None = None,
    ) -> Self:
        """The costs with a predictor, by its name in `PREDICTORS`; gains of x0 as measured, or else by formula."""
        rule = PREDICTORS[predictor]
        one, nothing = torch.ones(()), torch.zeros(())
        slopes = [abs(float(to_x0(variable, one, nothing, node.alpha, node.sigma))) for node in solver.nodes]
        each = Gaps.of(solver, 1, 1).gains if gains is None else gains
        at = np.array(positions(solver, rule.axis))
        return cls(products, each * slopes, at, rule.nodes, rule.weights, rule.between if correct else None)

    @property
    def steps(self) -> int:
        """Number of steps, N."""
        return len(self.at)

    def cost(self, evaluated: Whole) -> float:
        """The sum of squared costs of the gaps of a set of evaluated steps, in rising order and up to the last step."""
        before = [evaluated[max(0, i - self.nodes) : i + 1][::-1] for i in range(len(evaluated) - 1)]
        table = np.full((len(before), self.nodes + 1), NO_STEP)
        for row, nodes in zip(table, before, strict=True):
            row[: len(nodes)] = nodes
        return float((self.gaps(table, evaluated[1:]) ** 2).sum())

    def gaps(self, nodes: Whole, following: Whole) -> Array:
        """Changes of the final sample by gaps.

        With replayed steps it is what interpolation leaves, plus the change of the next evaluation, which is made at
        the extrapolated state.

        Args:
            nodes: The evaluated steps before each gap, newest first, `NO_STEP` where there is none, (R, n).
            following: The evaluated step after it, (R,).

        Returns:
            The changes, (R,); 0 where nothing is skipped.
        """
        rows, ahead = _skipped(nodes[:, 0], following)
        change = np.zeros(len(nodes))
        if not len(rows):
            return change
        kept = nodes[rows]
        np.add.at(change, rows, self.gains[ahead] * self._errors(self.weights, kept[:, : self.nodes], ahead))
        if self.between is None:
            return change
        gained = np.zeros(len(nodes))
        np.add.at(gained, rows, self.gains[ahead])
        change *= gained
        both = np.concatenate((following[rows, None], kept), axis=1)[:, : self.nodes + 1]
        np.add.at(change, rows, self.gains[ahead] * self._errors(self.between, both, ahead))
        return change

    def _errors(self, weights: Weights, nodes: Whole, ahead: Whole) -> Array:
        """Root-mean-square errors of predictions at the steps `ahead` (R,) from the evaluated steps `nodes` (R, n)."""
        times = np.where(nodes == NO_STEP, np.nan, self.at[nodes])
        times[~np.isfinite(times)] = np.nan
        found = weights(times, self.at[ahead])
        own = (found * self.products[nodes, ahead[:, None]]).sum(axis=1)
        all_pairs = self.products[nodes[:, :, None], nodes[:, None, :]]
        square = np.einsum("ri,rij,rj->r", found, all_pairs, found) - 2 * own + self.products[ahead, ahead]
        errors: Array = np.sqrt(np.maximum(square, 0.0))
        return errors


def _skipped(last: Whole, following: Whole) -> tuple[Whole, Whole]:
    """The skipped steps of gaps between two evaluations (R,): the index of the gap of each, and the step."""
    lengths = following - last - 1
    rows = np.repeat(np.arange(len(last)), lengths)
    offsets = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return rows, last[rows] + 1 + offsets
