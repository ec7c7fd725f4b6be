"""Past x0 of every sample at times of its own, and polynomials through them."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers.weights import Weights, lagrange_weights


class NodeBuffer:
    """The last `size` nodes (time, x0) of each sample of a batch, newest first.

    Samples are independent: each has its own times, which need not be evenly spaced. Memory: `size` latents a sample.
    """

    def __init__(self, size: int, samples: int) -> None:
        self.size = size
        self.times: list[list[float]] = [[] for _ in range(samples)]
        self._values: list[list[Tensor]] = [[] for _ in range(samples)]

    def push(self, row: int, time: float, value: Tensor) -> None:
        """Add a node for sample `row`; value, of the sample's shape (...), is copied, since a row kept as it is would
        keep its whole batch. A node replaces one at the same time, to which solvers of several evaluations a step come
        back. One at infinite time (the log-SNR of pure noise) has no place on a polynomial and is left out."""
        if not math.isfinite(time):
            return
        others = [(t, x0) for t, x0 in zip(self.times[row], self._values[row], strict=True) if t != time]
        nodes = [(time, value.clone()), *others][: self.size]
        self.times[row] = [t for t, _ in nodes]
        self._values[row] = [x0 for _, x0 in nodes]

    def count(self, row: int) -> int:
        return len(self.times[row])

    def at(self, rows: Sequence[int], time: float, count: int | None = None, damping: float = 1.0) -> Tensor:
        """Values (len(rows), ...) at `time` of the polynomials through each sample's nodes, or its newest `count`.

        In Newton's form, from the newest node back, the terms above the linear one count `damping` times each degree.
        """
        return torch.stack([self._one(row, time, count, damping) for row in rows])

    def _one(self, row: int, time: float, count: int | None, damping: float) -> Tensor:
        values = self._values[row][:count]
        weights = damped_weights(self.times[row][:count], time, damping)
        total = values[0] * float(weights[0])
        for weight, value in zip(weights[1:], values[1:], strict=True):
            total = total + value * float(weight)
        return total


def damped_weights(nodes: Sequence[float], at: float, damping: float) -> Weights:
    """`lagrange_weights` whose Newton terms of degree 2, 3, ... count `damping`, `damping` squared, ..."""
    if damping == 1 or len(nodes) < 3:
        return lagrange_weights(nodes, at)
    total = np.zeros(len(nodes))
    for count in range(2, len(nodes) + 1):  # a sum of polynomials of degree 1, 2, ...
        share = damping ** (count - 2) * (1 if count == len(nodes) else 1 - damping)
        total[:count] += share * lagrange_weights(nodes[:count], at)
    return total
