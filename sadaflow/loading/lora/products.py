"""What adapters add to a weight, as matrices of (outputs, inputs times kernel positions)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Product(ABC):
    """A change that is computed from an adapter's tensors alone."""

    @abstractmethod
    def compute(self) -> Tensor:
        """The change as a matrix (outputs, inputs times kernel positions)."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A copy with `function` applied to all tensors."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: function(part) for name, part in tensors.items() if isinstance(part, Tensor)})

    def shape(self) -> tuple[int, ...]:
        """The shape of `compute()`, without computing it; raises ValueError if the tensors do not fit each other."""
        try:
            return tuple(self.map(_shape_of).compute().shape)
        except (RuntimeError, IndexError) as error:
            tensors = [getattr(self, field.name) for field in fields(self)]
            shapes = ", ".join(str(tuple(part.shape)) for part in tensors if isinstance(part, Tensor))
            raise ValueError(f"the factors, of shapes {shapes}, do not fit each other") from error


@dataclass(frozen=True, eq=False)
class LowRank(Product):
    """The product weight * up @ down of LoRA (Hu et al. 2021, arXiv 2106.09685), or with a middle factor of LoCon.

    Attributes:
        up: Shape (outputs, rank).
        down: Shape (rank, inputs); the kernel positions of a convolution count as inputs, unless there is `mid`.
        weight: alpha / rank, or alpha / sqrt(rank) for rsLoRA (Kalajdzievski 2023, arXiv 2312.03732).
        mid: Shape (rank, rank, kernel height, kernel width), LyCORIS's Tucker form (Yeh et al. 2023, arXiv 2309.14859).
    """

    up: Tensor
    down: Tensor
    weight: float
    mid: Tensor | None = None

    def compute(self) -> Tensor:
        if self.mid is None:
            return self.weight * (self.up @ self.down)
        return self.weight * tucker(self.mid, self.up.T, self.down)


@dataclass(frozen=True, eq=False)
class Hadamard(Product):
    """The product weight * (w1_a @ w1_b) * (w2_a @ w2_b) of LoHa (Hyeon-Woo et al. 2021, arXiv 2108.06098).

    Attributes:
        w1_a, w1_b, w2_a, w2_b: Shapes (outputs, rank) and (rank, inputs); (rank, outputs) with middle factors.
        weight: alpha / rank.
        t1, t2: Middle factors (rank, rank, kernel height, kernel width), or None.
    """

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    weight: float
    t1: Tensor | None = None
    t2: Tensor | None = None

    def compute(self) -> Tensor:
        if self.t1 is None or self.t2 is None:
            return self.weight * ((self.w1_a @ self.w1_b) * (self.w2_a @ self.w2_b))
        return self.weight * tucker(self.t1, self.w1_a, self.w1_b) * tucker(self.t2, self.w2_a, self.w2_b)


@dataclass(frozen=True, eq=False)
class Kronecker(Product):
    """The Kronecker product weight * kron(w1, w2) of LoKr (Yeh et al. 2023, arXiv 2309.14859, section 3.2).

    Attributes:
        w1: Shape (a, b), or None for w1_a @ w1_b.
        w2: Shape (c, d) or (c, d, kernel height, kernel width), or None for w2_a @ w2_b.
        w1_a, w1_b, w2_a, w2_b: Low-rank factors of them, or None.
        t2: Middle factor (rank, rank, kernel height, kernel width) of w2, or None.
        weight: alpha / rank.
    """

    w1: Tensor | None
    w2: Tensor | None
    weight: float
    w1_a: Tensor | None = None
    w1_b: Tensor | None = None
    w2_a: Tensor | None = None
    w2_b: Tensor | None = None
    t2: Tensor | None = None

    def compute(self) -> Tensor:
        left = _given(self.w1, self.w1_a, self.w1_b)
        if self.t2 is not None:
            assert self.w2_a is not None and self.w2_b is not None
            right = tucker(self.t2, self.w2_a, self.w2_b)
        else:
            right = _given(self.w2, self.w2_a, self.w2_b).flatten(1)
        # The kernel positions are the innermost index of both, so that the flat product is that of the kernels.
        return self.weight * torch.kron(left.flatten(1), right)


@dataclass(frozen=True, eq=False)
class Full(Product):
    """A difference that is stored as it is.

    Attributes:
        diff: The shape of the weight, or (outputs, 1) for a vector.
    """

    diff: Tensor
    weight: float = 1.0

    def compute(self) -> Tensor:
        return self.weight * self.diff


def tucker(middle: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The tensor of a Tucker decomposition, flattened to (outputs, inputs times kernel positions).

    Args:
        middle: Shape (rank, rank, ...).
        left: Shape (rank, outputs).
        right: Shape (rank, inputs).
    """
    return torch.einsum("ij...,ip,jr->pr...", middle, left, right).flatten(1)


def scaling(alpha: float | None, rank: int, root: bool = False) -> float:
    """alpha / rank, or alpha / sqrt(rank) if `root`; alpha None is the rank."""
    alpha = float(rank) if alpha is None else alpha
    return alpha / math.sqrt(rank) if root else alpha / rank


def _shape_of(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, device="meta")


def _given(whole: Tensor | None, left: Tensor | None, right: Tensor | None) -> Tensor:
    if whole is not None:
        return whole
    assert left is not None and right is not None
    return left @ right
