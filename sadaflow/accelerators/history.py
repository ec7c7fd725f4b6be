"""Per-sample memories: past x0 at each sample's own times, and values kept per sample and guidance branch."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sadaflow.solvers.polynomials import lagrange_weights

from ..device.indexing import index_of, put


class NodeBuffer:
    """The last nodes (time, x0) of each sample of a batch, newest first, and polynomials through them.

    Samples are independent: each has its own times, which need not be evenly spaced. Memory: `size` latents a sample.

    Args:
        size: Most nodes kept per sample.
        samples: Number of samples, B.
    """

    def __init__(self, size: int, samples: int) -> None:
        self.size = size
        self.times: list[list[float]] = [[] for _ in range(samples)]
        self._values: list[list[Tensor]] = [[] for _ in range(samples)]

    def push(self, row: int, time: float, value: Tensor) -> None:
        """Adds a node for sample `row`.

        A node replaces an older one at the same time, to which solvers with several evaluations a step return.

        Args:
            row: Index of the sample.
            time: Time of the node; an infinite one (the log-SNR of pure noise) is ignored.
            value: x0 of the sample, (...). It is copied, because a view would keep its whole batch in memory.
        """
        if not math.isfinite(time):
            return
        others = [(t, x0) for t, x0 in zip(self.times[row], self._values[row], strict=True) if t != time]
        nodes = [(time, value.clone()), *others][: self.size]
        self.times[row] = [t for t, _ in nodes]
        self._values[row] = [x0 for _, x0 in nodes]

    def count(self, row: int) -> int:
        """Number of nodes of sample `row`."""
        return len(self.times[row])

    def at(self, rows: Sequence[int], time: float, count: int | None = None) -> Tensor:
        """Polynomials through each sample's nodes, or its newest `count`, evaluated at `time`: (len(rows), ...)."""
        return torch.stack([self.combined(row, lagrange_weights(self.times[row][:count], time)) for row in rows])

    def combined(self, row: int, weights: Iterable[float]) -> Tensor:
        """Weighted sum (...) of sample `row`'s newest nodes, as many as there are `weights` (at least one)."""
        terms = [value * float(weight) for value, weight in zip(self._values[row], weights, strict=False)]
        return sum(terms[1:], terms[0])


class RowStore:
    """One tensor for each sample and guidance branch, overwritten at each evaluation.

    The batch of an evaluation holds branches x samples, the samples in the order of `rows`.

    Args:
        samples: Number of samples, B.
    """

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self._values: Tensor | None = None

    def __bool__(self) -> bool:
        """Whether anything has been stored."""
        return self._values is not None

    def put(self, rows: Sequence[int], values: Tensor) -> None:
        """Stores values (branches x len(rows), ...) of the samples `rows`."""
        parts = values.unflatten(0, (-1, len(rows)))
        if self._values is None:
            self._values = parts.new_zeros((parts.shape[0], self.samples, *parts.shape[2:]))
        put(self._values.transpose(0, 1), rows, parts.transpose(0, 1))

    def take(self, rows: Sequence[int]) -> Tensor:
        """A copy of the values of the samples `rows`, (branches x len(rows), ...)."""
        assert self._values is not None
        return self._values.index_select(1, index_of(rows, self._values.device)).flatten(0, 1)
