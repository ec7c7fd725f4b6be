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
        here = np.arange(len(index))[:, None]
        times, slots = times[here, order], slots[here, order]
        times[:, 0] = time
        self.times[index], self._slots[index] = times, slots
        if self._values is None or self._values.shape[2:] != values.shape[1:]:  # as where guidance begins or ends
            self._values = values.new_zeros((self.size, len(self.times), *values.shape[1:]))
        put(self._values.flatten(0, 1), (slots[:, 0] * len(self.times) + index).tolist(), values)

    def forget(self, rows: Sequence[int]) -> None:
        """Removes all nodes of the samples `rows`."""
        self.times[np.asarray(rows, dtype=np.int64)] = np.nan

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
        """Yields `combined(rows, each)` for each of `weights` (S, len(rows), columns), in turn."""
        values, placed = self._ring(rows), self._by_slot(rows, weights)
        dtype = values[0].dtype
        if len(rows) == 1:
            for numbers in placed[:, :, 0].tolist():
                yield _scaled_sum(values, numbers).to(dtype)
        else:
            for tensor in self._sent(placed, values[0]):
                yield _weighted_sum(values, tensor).to(dtype)

    def distances(self, rows: Sequence[int], weights: Array, x0: Tensor) -> Tensor:
        """Root-mean-square distances of weighted sums from other values, in float32 or wider.

        Args:
            rows: Indices of the samples.
            weights: (S, len(rows), columns), as for `combined`.
            x0: The other values, (len(rows), ...).

        Returns:
            The distances, (S, len(rows)).
        """
        values, placed = self._ring(rows), self._by_slot(rows, weights)
        apart = _weighted_sum(values, self._sent(placed, values[0]).transpose(0, 1)).sub_(x0)
        return apart.square_().flatten(2).mean(dim=2).sqrt_()

    def _ring(self, rows: Sequence[int]) -> Sequence[Tensor]:
        """The values of the samples `rows`, (len(rows), ...), by slot of the ring."""
        assert self._values is not None
        return taken(self._values.transpose(0, 1), rows).unbind(1)

    def _by_slot(self, rows: Sequence[int], weights: Array) -> Array:
        """Weights of the newest nodes (S, len(rows), columns) as weights of the ring's slots, (S, size, len(rows))."""
        slots = self._slots[np.asarray(rows), : weights.shape[2]]
        placed = np.zeros((len(weights), self.size, len(rows)))
        placed[:, slots, np.arange(len(rows))[:, None]] = weights
        return placed

    def _sent(self, placed: Array, value: Tensor) -> Tensor:
        """Weights (S, size, R) on the device, shaped to broadcast with values (R, ...): (S, size, R, 1, ...)."""
        numbers = sent(placed, value.device, torch.promote_types(value.dtype, torch.float32))
        return numbers.view(*numbers.shape, *[1] * (value.dim() - 1))


def _weighted_sum(values: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Sum of values (R, ...) times weights (n, ..., R, 1, ...), accumulated in the dtype of the weights."""
    numbers = weights.unbind(0)
    total = numbers[0] * values[0]
    for weight, value in zip(numbers[1:], values[1:], strict=True):
        total.addcmul_(weight, value)
    return total


def _scaled_sum(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The same for one sample, whose weights are numbers, so that nothing is sent to the device."""
    total = values[0].to(torch.promote_types(values[0].dtype, torch.float32)) * weights[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        if weight:
            total.add_(value, alpha=weight)
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
        """Stores values (branches x len(rows), ...) of the samples `rows`.

        With another number of branches than before, all samples are stored anew: the sampling loop evaluates all in
        full where guidance begins or ends.
        """
        parts = values.unflatten(0, (-1, len(rows)))
        if self._values is None or self._values.shape[0] != parts.shape[0]:
            self._values = parts.new_zeros((parts.shape[0], self.samples, *parts.shape[2:]))
        put(self._values.transpose(0, 1), rows, parts.transpose(0, 1))

    def take(self, rows: Sequence[int]) -> Tensor:
        """A copy of the values of the samples `rows`, (branches x len(rows), ...)."""
        assert self._values is not None
        return self._values.index_select(1, index_of(rows, self._values.device)).flatten(0, 1)
