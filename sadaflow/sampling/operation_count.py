"""Counts the operations of matrix products, convolutions and attention in the calls of one thread."""

from collections.abc import Mapping
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, shape_wrapper

# Queries of a tensor's layout, which tensor subclasses handle themselves.
_LAYOUT = (
    "dim", "is_contiguous", "is_non_overlapping_and_dense", "is_strides_like_format", "layout", "numel", "size",
    "storage_offset", "stride",
)  # fmt: skip


class OperationCount(TorchDispatchMode):
    """Counts operations while it is entered, in one thread.

    The formulas are those of `torch.utils.flop_counter`. Its `FlopCounterMode` also tracks modules by global hooks, so
    that calls in other threads fail or are counted too.

    Args:
        further: Formulas, from shapes, of operators that torch has none for.

    Attributes:
        total: Number of operations.
    """

    supports_higher_order_operators = True

    def __init__(self, further: Mapping[Any, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self._formulas = {**flop_registry, **{name: shape_wrapper(count) for name, count in further.items()}}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return func(*args, **kwargs)
        packet = func._overloadpacket
        if packet.__name__.removeprefix("sym_") in _LAYOUT:
            return NotImplemented
        if packet not in self._formulas and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if (formula := self._formulas.get(packet)) is not None:
            self.total += int(formula(*args, **kwargs, out_val=result))
        return result
