"""What an evaluation that takes a part of the network from a cache costs: its share of a full one's multiplications."""

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


# What torch counts of other operators, of these from the shapes of their inputs.
_UNKNOWN_TO_TORCH = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.mkldnn._convolution_pointwise: _convolution,
}


class Meter:
    """Counts a run's evaluations, if it `counts` at all, until it knows what a cached one costs beside a full one.

    The operations of matrix products, convolutions and attention are counted (`OperationCount`), of the first
    evaluation and of the first with cached samples; what one sample costs in full is known by then, so samples of both
    kinds may be in it. All cached evaluations of a run are taken to cost the same.
    """

    def __init__(self, counts: bool) -> None:
        self._counts = counts
        self._operations: int | None = None
        self._full: float | None = None
        self._share = 1.0

    @contextmanager
    def watching(self, mode: Mode) -> Iterator[None]:
        """Around one evaluation of the network planned in `mode`; `learn` comes next."""
        self._operations = None
        if not self._counts or (mode is not Mode.CACHED and self._full is not None):
            yield
            return
        with OperationCount(_UNKNOWN_TO_TORCH) as counter:
            yield
        self._operations = counter.total

    def learn(self, modes: Sequence[Mode]) -> None:
        """How each of the samples in the evaluation just watched was evaluated.

        Raises ValueError where samples are cached before any has been evaluated in full.
        """
        if self._operations is None:
            return
        cached, total = modes.count(Mode.CACHED), self._operations
        if self._full is None:
            if cached:
                raise ValueError("an evaluation took from a cache before any sample had been evaluated in full")
            if all(mode is Mode.FULL for mode in modes):
                self._full = total / len(modes)
        elif cached:
            self._counts = False
            if self._full > 0:
                self._share = (total / self._full - (len(modes) - cached)) / cached

    def cost(self, mode: Mode) -> float:
        """Of one evaluation, in full ones; a cached one is whole where nothing that is counted was multiplied, one of
        two branches is half."""
        if mode is Mode.CONDITIONAL:
            return 0.5
        return self._share if mode is Mode.CACHED else float(mode.evaluates)
