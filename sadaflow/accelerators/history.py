"""Per-sample memories: past x0 at each sample's own times, and values kept per sample and guidance branch."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..device.indexing import index_of, put, sent, taken

Array = NDArray[np.float64]


class NodeBuffer:
    """The last nodes (time, x0) of each sample of a batch, and weighted sums of them.

    Samples are independent: each has its own times, which need not be evenly spaced. The values of all samples lie in
    one ring buffer on the device, so that the number of operations does not depend on the batch. Memory: `size` latents
    per sample, allocated by the first `push`.

    Args:
        size: Most nodes kept per sample.
        samples: Number of samples, B.

    Attributes:
        times: Times of the nodes, newest first, nan where there is none: (B, size).
    """

    def __init__(self, size: int, samples: int) -> None:
        self.size = size
        self.times: Array = np.full((samples, size), np.nan)
        self._slots = np.tile(np.arange(size), (samples, 1))  # where in the ring each node lies, newest first
        self._values: Tensor | None = None  # (size, B, ...)

    def push(self, rows: Sequence[int], time: float, values: Tensor) -> None:
        """Adds a node for each of the samples `rows`.

        A node replaces an older one at the same time, to which solvers with several evaluations a step return.

        Args:
            rows: Indices of the samples.
            time: Time of the nodes; an infinite one (the log-SNR of pure noise) is ignored.
            values: x0 of these samples, (len(rows), ...). They are copied.
        """
        if not math.isfinite(time) or len(rows) == 0:
            return
        index, each = np.asarray(rows), np.arange(self.size)
        times, slots = self.times[index], self._slots[index]
        same = times == time
        replaced = np.where(same.any(1), same.argmax(1), self.size - 1)[:, None]
        order = np.where(each == 0, replaced, np.where(each <= replaced, each - 1, each))
        times, slots = np.take_along_axis(times, order, 1), np.take_along_axis(slots, order, 1)
        times[:, 0] = time
        self.times[index], self._slots[index] = times, slots
        if self._values is None:
            self._values = values.new_zeros((self.size, len(self.times), *values.shape[1:]))
        put(self._values.flatten(0, 1), (slots[:, 0] * len(self.times) + index).tolist(), values)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of nodes of each sample, (B,)."""
        return np.isfinite(self.times).sum(axis=1)

    def at(self, rows: Sequence[int], time: float, count: int | None = None) -> Tensor:
        """Polynomials through each sample's nodes, or its newest `count`, evaluated at `time`: (len(rows), ...)."""
        return self.combined(rows, lagrange(self.times[np.asarray(rows), :count], time))

    def combined(self, rows: Sequence[int], weights: Array) -> Tensor:
        """Weighted sums of the nodes of some samples, in the dtype of the values.

        Args:
            rows: Indices of the samples, each of which has a node.
            weights: Weights of the newest nodes, as many as there are columns, (len(rows), columns).

        Returns:
            The sums, (len(rows), ...).
        """
        return next(self.series(rows, weights[None]))

    def series(self, rows: Sequence[int], weights: Array) -> Iterator[Tensor]:
        """Yields `combined(rows, one)` for each of `weights` (S, len(rows), columns), in turn."""
        values, numbers = self._weighed(rows, weights)
        for one in numbers:
            yield weighted_sum(values, one).to(values[0].dtype)

    def distances(self, rows: Sequence[int], weights: Array, x0: Tensor) -> Tensor:
        """Root-mean-square distances of weighted sums from other values, in float32 or wider.

        Args:
            rows: Indices of the samples.
            weights: (S, len(rows), columns), as for `combined`.
            x0: The other values, (len(rows), ...).

        Returns:
            The distances, (S, len(rows)).
        """
        values, numbers = self._weighed(rows, weights)
        apart = weighted_sum(values, numbers.transpose(0, 1)).sub_(x0)
        return apart.square_().flatten(2).mean(dim=2).sqrt_()

    def _weighed(self, rows: Sequence[int], weights: Array) -> tuple[list[Tensor], Tensor]:
        """The ring of the samples `rows`, size x (len(rows), ...), and its weights (S, size, len(rows), 1, ...)."""
        assert self._values is not None
        slots = self._slots[np.asarray(rows), : weights.shape[2]]
        placed = np.zeros((*weights.shape[:2], self.size))
        np.put_along_axis(placed, np.broadcast_to(slots, weights.shape), weights, 2)
        ring = taken(self._values.transpose(0, 1), rows)
        dtype = torch.promote_types(ring.dtype, torch.float32)
        numbers = sent(placed.transpose(0, 2, 1), ring.device, dtype)
        return list(ring.unbind(1)), numbers.view(*numbers.shape, *[1] * (ring.dim() - 2))


def weighted_sum(values: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Sum of values (B, ...) times weights, accumulated in the dtype of the weights.

    Args:
        values: n tensors, (B, ...) each.
        weights: (n, ..., B, 1, ...), which broadcast with the values.
    """
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total.addcmul_(weight, value)
    return total


def lagrange(times: Array, at: float | Array) -> Array:
    """Weights of the polynomials through nodes, evaluated at `at`.

    Args:
        times: Distinct times of the nodes, nan where there is none, (..., n).
        at: Time of evaluation, (...).

    Returns:
        Weights (..., n), 0 where there is no node.
    """
    known = ~np.isnan(times)
    ahead = np.asarray(at)[..., None] - np.where(known, times, 0.0)
    factors = ahead[..., None, :] / _apart(times, known)
    others = known[..., None, :] & ~np.eye(times.shape[-1], dtype=bool)
    weights: Array = np.where(known, np.where(others, factors, 1.0).prod(axis=-1), 0.0)
    return weights


def _apart(times: Array, known: NDArray[np.bool_]) -> Array:
    """Differences times[j] - times[i] of all pairs (..., j, i); 1 where there is no pair."""
    apart = times[..., :, None] - times[..., None, :]
    pair = known[..., :, None] & known[..., None, :] & ~np.eye(times.shape[-1], dtype=bool)
    differences: Array = np.where(pair, apart, 1.0)
    return differences


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
