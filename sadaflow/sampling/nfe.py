"""The cost of an evaluation that takes a part of the network from a cache: its share of the multiplications."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch.utils.flop_counter import conv_flop_count, sdpa_flop_count

from ..accelerators.base import Mode
from .operation_count import OperationCount


def _attention(query: list[int], key: list[int], value: list[int], *_: Any, **__: Any) -> int:
    return cast(int, sdpa_flop_count(query, key, value))


def _convolution(x: list[int], weight: list[int], *_: Any, out_shape: list[int], **__: Any) -> int:
    return conv_flop_count(x, weight, out_shape)


# Operators that torch counts under other names; the counts follow from the shapes of their inputs.
_UNKNOWN_TO_TORCH = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.mkldnn._convolution_pointwise: _convolution,
}


def operation_count() -> OperationCount:
    """A counter that knows the operators that torch counts under other names."""
    return OperationCount(_UNKNOWN_TO_TORCH)


class Meter:
    """Measures the cost of a cached evaluation relative to a full one.

    It counts the operations of matrix products, convolutions and attention (`OperationCount`) of the first full
    evaluation and of the first with cached samples, which may hold full samples as well. All cached evaluations of a
    run are assumed to cost the same. Operators without a formula are estimated from shapes. If none is seen that
    multiplies, evaluations are compared by the elements that their operators write. Either is said in a warning.

    Args:
        counts: Whether to count at all; otherwise a cached evaluation counts as 1.
        branches: Number of branches of guidance of a full evaluation.
    """

    def __init__(self, counts: bool, branches: int = 2) -> None:
        self._counts, self._branches = counts, branches
        self._operations: int | None = None
        self._written = 0
        self._estimated: set[str] = set()
        self._full: float | None = None
        self._full_written = 0.0
        self._share = 1.0

    @contextmanager
    def watching(self, mode: Mode) -> Iterator[None]:
        """Context manager around an evaluation of the network in `mode`; call `learn` afterwards."""
        self._operations = None
        if not self._counts or (mode is not Mode.CACHED and self._full is not None):
            yield
            return
        with operation_count() as counter:
            yield
        self._operations, self._written = counter.total, counter.written
        self._estimated |= counter.estimated

    def learn(self, modes: Sequence[Mode], share: float = 1.0) -> None:
        """Learns from the evaluation just watched.

        Args:
            modes: How each of its samples was evaluated.
            share: The part of the branches that guidance needed.

        Raises:
            ValueError: if samples were cached before any was evaluated in full.
        """
        if self._operations is None or share == 0:
            return
        cached, total, written = modes.count(Mode.CACHED), self._operations / share, self._written / share
        if self._full is None:
            if cached:
                raise ValueError("an evaluation took from a cache before any sample had been evaluated in full")
            if all(mode is Mode.FULL for mode in modes):
                self._full, self._full_written = total / len(modes), written / len(modes)
        elif cached:
            self._counts = False
            counted, full = (total, self._full) if self._full > 0 else (written, self._full_written)
            if full > 0:
                self._share = (counted / full - (len(modes) - cached)) / cached
            self._warn()

    def _warn(self) -> None:
        """Says what the share of a cached evaluation rests on, if that is not a count of its multiplications."""
        if self._full == 0:
            what = "no operator of the network with a known count was seen: compared by the elements written"
        elif self._estimated:
            what = f"the operations of {', '.join(sorted(self._estimated))} were estimated from shapes"
        else:
            return
        warnings.warn(f"stats.nfe counts a cached evaluation as {self._share:.2f}, but {what}", stacklevel=4)

    def cost(self, mode: Mode, share: float = 1.0) -> float:
        """Cost of an evaluation of one sample in units of a full evaluation, which is one of all branches of guidance.

        A cached one counts as 1 before it is measured, and if no operator was seen at all.

        Args:
            mode: How it was evaluated.
            share: The part of the branches that guidance needed.
        """
        if mode is Mode.CONDITIONAL:
            return min(share, 1 / self._branches)
        return share * (self._share if mode is Mode.CACHED else float(mode.evaluates))
