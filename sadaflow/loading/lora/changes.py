"""How adapters change a weight: by a sum, by a new norm (DoRA), by rotating it (OFT), by scaling it ((IA)3)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .products import LowRank, Product
from .targets import Target


class Method(Protocol):
    """A way of changing a weight."""

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if the change does not fit a weight of `shape`."""
        ...

    def apply(self, weight: Tensor, original: Callable[[], Tensor], scale: float) -> Tensor:
        """The changed weight.

        Args:
            weight: The weight with the changes of earlier adapters, float32 or float64.
            original: Gives the weight from before the first adapter.
            scale: Factor of the adapter, not 0.
        """
        ...


@dataclass(frozen=True, eq=False)
class Change:
    """The change of one layer, or of layers that the file fuses.

    Attributes:
        layer: Name of the layer in the file, for errors.
        target: The parameters that it is made to.
        method: What is done to them.
    """

    layer: str
    target: Target
    method: Method


@dataclass(frozen=True, eq=False)
class Sum:
    """W + scale * product.

    Attributes:
        product: What is added.
    """

    product: Product

    def check(self, shape: tuple[int, ...]) -> None:
        found, expected = _matrix(self.product.shape()), _matrix(shape)
        if found != expected:
            raise ValueError(f"the change has the shape {found}, the layer {expected}")

    def difference(self, weight: Tensor) -> Tensor:
        """The product in the shape, dtype and device of `weight`."""
        return self.product.map(lambda part: part.to(weight)).compute().reshape(weight.shape)

    def apply(self, weight: Tensor, original: Callable[[], Tensor], scale: float) -> Tensor:
        return weight + scale * self.difference(weight)


@dataclass(frozen=True, eq=False)
class Renormed:
    """DoRA (Liu et al. 2024, arXiv 2402.09353, equation 5): magnitude * (W + D) / |W0 + D| with D = scale * product.

    As in PEFT, the scale of the adapter multiplies the product and not the magnitude, and the norm is that of the
    original weight W0 with this adapter alone.

    Attributes:
        added: What is added before the norm.
        magnitude: The new norms, a vector.
        by_input: Whether they are norms of the inputs' columns, as in older files of LyCORIS, not of the outputs' rows.
    """

    added: Sum
    magnitude: Tensor
    by_input: bool = False

    def check(self, shape: tuple[int, ...]) -> None:
        self.added.check(shape)
        side = "inputs" if self.by_input else "outputs"
        expected = shape[1] if self.by_input else shape[0]
        if self.magnitude.numel() != expected:
            raise ValueError(f"the magnitude has {self.magnitude.numel()} numbers, the layer {expected} {side}")

    def apply(self, weight: Tensor, original: Callable[[], Tensor], scale: float) -> Tensor:
        difference = scale * self.added.difference(weight)
        axis = 1 if self.by_input else 0
        others = [dim for dim in range(weight.dim()) if dim != axis]
        norm = torch.linalg.vector_norm(original() + difference, dim=others, keepdim=True)
        return self.magnitude.to(weight).reshape(norm.shape) / norm * (weight + difference)


@dataclass(frozen=True, eq=False)
class Residual:
    """A LoRA whose training began with a part of the weight taken out, as PEFT merges it: W - start + scale * product.

    Attributes:
        added: The trained product.
        start: "pissa" for the largest singular values (Meng et al. 2024, arXiv 2404.02948), "olora" for the first
            columns of the QR decomposition (Büyükakyüz 2024, arXiv 2406.01775).
        rank: Number of singular values or columns.
        weight: The product's alpha / rank, by which OLoRA scales the start as well.
    """

    added: Sum
    start: str
    rank: int
    weight: float

    def check(self, shape: tuple[int, ...]) -> None:
        self.added.check(shape)
        if len(shape) != 2:
            raise ValueError(f"init_lora_weights={self.start!r} is defined for linear layers alone")

    def apply(self, weight: Tensor, original: Callable[[], Tensor], scale: float) -> Tensor:
        return weight - self._start(original()) + scale * self.added.difference(weight)

    def _start(self, original: Tensor) -> Tensor:
        rank = self.rank
        if self.start == "pissa":
            left, values, right = torch.linalg.svd(original, full_matrices=False)
            return (left[:, :rank] * values[:rank]) @ right[:rank]
        left, right = torch.linalg.qr(original)
        return self.weight * (left[:, :rank] @ right[:rank])


@dataclass(frozen=True, eq=False)
class Scaled:
    """(IA)3 (Liu et al. 2022, arXiv 2205.05638): the weight times 1 + scale * (factor - 1).

    Attributes:
        factor: Factors of the outputs or of the inputs, a vector.
        by_input: Which of them.
    """

    factor: Tensor
    by_input: bool

    def check(self, shape: tuple[int, ...]) -> None:
        expected = shape[1] if self.by_input and len(shape) > 1 else shape[0]
        if self.factor.numel() != expected:
            raise ValueError(f"there are {self.factor.numel()} factors for {expected} rows or columns")

    def apply(self, weight: Tensor, original: Callable[[], Tensor], scale: float) -> Tensor:
        shape = [1] * weight.dim()
        shape[1 if self.by_input and weight.dim() > 1 else 0] = -1
        return weight * (1 + scale * (self.factor.to(weight) - 1)).reshape(shape)


@dataclass(frozen=True, eq=False)
class Generalized:
    """GLoRA in LyCORIS's form (Chavan et al. 2023, arXiv 2306.07967): W + scale * weight * (W @ a1 @ a2 + b1 @ b2).

    Attributes:
        a1, a2: Shapes (inputs, rank) and (rank, inputs).
        added: The product b1 @ b2 with its weight.
    """

    a1: Tensor
    a2: Tensor
    added: LowRank

    def check(self, shape: tuple[int, ...]) -> None:
        Sum(self.added).check(shape)
        inputs, rank = shape[1], len(self.a2)
        if self.a1.shape != (inputs, rank) or self.a2.shape != (rank, inputs):
            raise ValueError(
                f"a1 and a2 have the shapes {tuple(self.a1.shape)} and {tuple(self.a2.shape)}, expected "
                f"({inputs}, rank) and (rank, {inputs}); files of LyCORIS before 2.0 have another form of GLoRA"
            )

    def apply(self, weight: Tensor, original: Callable[[], Tensor], scale: float) -> Tensor:
        inner = self.a1.to(weight) @ self.a2.to(weight)
        turned = torch.einsum("oi...,ij->oj...", weight, inner)
        return weight + scale * (self.added.weight * turned + Sum(self.added).difference(weight))


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])
