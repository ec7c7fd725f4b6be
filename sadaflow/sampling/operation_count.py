"""Counts the operations of matrix products, convolutions and attention in the calls of one thread."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, shape_wrapper

# Queries of a tensor's layout, which tensor subclasses handle themselves.
_LAYOUT = (
    "dim", "is_contiguous", "is_non_overlapping_and_dense", "is_strides_like_format", "layout", "numel", "size",
    "storage_offset", "stride",
)  # fmt: skip

# Namespaces whose operators have formulas or multiply nothing, except for the operators with such names.
_TRANSPARENT = ("aten", "prim", "prims")
_MULTIPLIES = ("pack_mm", "_int_mm", "grouped_mm", "attention")


class OperationCount(TorchDispatchMode):
    """Counts operations while it is entered, in one thread.

    The formulas are those of `torch.utils.flop_counter`. Its `FlopCounterMode` also tracks modules by global hooks, so
    that calls in other threads fail or are counted too.

    An operator of an extension (a fused or quantized kernel), or one of torch's that multiplies and has no formula, is
    estimated from the shapes of its inputs: see `estimate`.

    Args:
        further: Formulas, from shapes, of operators that torch has none for.

    Attributes:
        total: Number of operations.
        written: Number of elements of all results.
        estimated: Names of the operators that were estimated.
    """

    supports_higher_order_operators = True

    def __init__(self, further: Mapping[Any, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = self.written = 0
        self.estimated: set[str] = set()
        self._formulas = {**flop_registry, **{name: shape_wrapper(count) for name, count in further.items()}}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            result = func(*args, **kwargs)
            self._estimate(func.name(), args, kwargs, result)
            return result
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
        elif func.namespace not in _TRANSPARENT or any(part in packet.__name__ for part in _MULTIPLIES):
            self._estimate(str(packet), args, kwargs, result)
        if not func.is_view:
            self.written += sum(tensor.numel() for tensor in _tensors(result))
        return result

    def _estimate(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        if count := estimate(args, kwargs, result):
            self.estimated.add(name)
            self.total += count


def estimate(args: Any, kwargs: Any, result: Any) -> int:
    """Operations of an operator that is known by its inputs and results only.

    With three inputs of the same last dimension and at least three dimensions it is taken for attention of queries,
    keys and values; with a matrix whose one dimension is the last of the first input, or with packed weights, which are
    no tensor, for a product with it. Others are taken to compute each element from few others, and count as 0.
    """
    inputs, results = _tensors((args, kwargs)), _tensors(result)
    if not inputs or not results or inputs[0].dim() == 0:
        return 0
    first, width = inputs[0], inputs[0].shape[-1]
    if len(inputs) >= 3 and all(part.dim() >= 3 and part.shape[-1] == width for part in inputs[:3]):
        keys = max(inputs[1].shape[1:-1])  # tokens, rather than heads
        return 4 * first.numel() * int(keys)
    packed = any(isinstance(leaf, torch.ScriptObject) for leaf in tree_leaves((args, kwargs)))
    if packed or any(part.dim() == 2 and width in part.shape and part.shape != first.shape for part in inputs[1:]):
        return 2 * results[0].numel() * int(width)
    return 0


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
