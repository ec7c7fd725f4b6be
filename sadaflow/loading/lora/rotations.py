"""Adapters that rotate a weight: OFT (Qiu et al. 2023, arXiv 2306.07280)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RotatedOutputs:
    """OFT of kohya's tools and LyCORIS ("diag-oft"): blocks of outputs are rotated, by a Cayley transform.

    Attributes:
        blocks: Shape (blocks, size, size); the skew-symmetric matrix is blocks - blocks^T.
        constraint: Largest norm of that matrix, divided by the number of outputs; None if it is not limited.
        rescale: Factors of the outputs, or None.
    """

    blocks: Tensor
    constraint: float | None = None
    rescale: Tensor | None = None

    def check(self, shape: tuple[int, ...]) -> None:
        found = tuple(self.blocks.shape)
        if len(found) != 3 or found[1] != found[2] or found[0] * found[1] != shape[0]:
            raise ValueError(f"oft_blocks of shape {found} do not cover {shape[0]} outputs")
        if self.rescale is not None and self.rescale.numel() != shape[0]:
            raise ValueError(f"rescale has {self.rescale.numel()} numbers for {shape[0]} outputs")

    def apply(self, weight: Tensor, original: Callable[[], Tensor], scale: float) -> Tensor:
        skew = self.blocks.to(weight)
        skew = skew - skew.mT
        if self.constraint is not None:
            norm, most = torch.linalg.vector_norm(skew), self.constraint * len(weight)
            skew = skew * ((norm.clamp(max=most) + 1e-8) / (norm + 1e-8))
        one = torch.eye(skew.shape[-1], dtype=weight.dtype, device=weight.device)
        rotation = one + scale * (torch.linalg.solve(one - skew, one + skew, left=False) - one)
        rows = weight.reshape(*skew.shape[:2], -1)
        rotated = torch.einsum("knm,kni->kmi", rotation, rows).reshape(weight.shape)
        if self.rescale is None:
            return rotated
        return rotated * self.rescale.to(weight).reshape(-1, *[1] * (weight.dim() - 1))


@dataclass(frozen=True)
class Cayley:
    """PEFT's settings of OFT.

    Attributes:
        terms: Number of terms of the Neumann series that stands for the inverse; None for the inverse itself.
        shared: Whether one block is used for all.
        limit: Largest norm of each block's skew-symmetric matrix times the root of their number (COFT); None for none.
    """

    terms: int | None
    shared: bool
    limit: float | None


@dataclass(frozen=True, eq=False)
class RotatedInputs:
    """OFT of PEFT (version 0.15 and later): blocks of inputs are rotated.

    Attributes:
        upper: Shape (blocks, size * (size - 1) / 2), the upper triangles of skew-symmetric matrices.
        settings: Its settings.
    """

    upper: Tensor
    settings: Cayley

    def check(self, shape: tuple[int, ...]) -> None:
        inputs, found = math.prod(shape[1:]), tuple(self.upper.shape)
        size = (1 + math.isqrt(1 + 8 * found[-1])) // 2
        blocks = 1 if self.settings.shared else inputs // size
        if len(found) != 2 or size * (size - 1) // 2 != found[1] or inputs % size or found[0] != blocks:
            raise ValueError(f"oft_R of shape {found} does not cover {inputs} inputs")

    def apply(self, weight: Tensor, original: Callable[[], Tensor], scale: float) -> Tensor:
        rotation = self._rotation(self.upper.to(weight))
        one = torch.eye(rotation.shape[-1], dtype=weight.dtype, device=weight.device)
        columns = weight.reshape(len(weight), -1, rotation.shape[-1])
        turned = (one + scale * (rotation - one)).expand(columns.shape[1], -1, -1)
        return torch.einsum("kij,okj->oki", turned, columns).reshape(weight.shape)

    def _rotation(self, upper: Tensor) -> Tensor:
        size = (1 + math.isqrt(1 + 8 * upper.shape[1])) // 2
        rows, columns = torch.triu_indices(size, size, 1)
        skew = upper.new_zeros((len(upper), size, size))
        skew[:, rows, columns] = upper
        skew = skew - skew.mT
        if self.settings.limit is not None:
            norm, most = torch.linalg.matrix_norm(skew, keepdim=True), self.settings.limit / math.sqrt(len(skew))
            skew = torch.where(norm <= most, skew, most * skew / norm)
        one = torch.eye(size, dtype=upper.dtype, device=upper.device)
        if self.settings.terms is None:
            return torch.linalg.solve(one + skew, one - skew, left=False)
        return _neumann(skew, one, self.settings.terms)


def _neumann(skew: Tensor, one: Tensor, terms: int) -> Tensor:
    """PEFT's series 1 + 2 Q + 2 Q^2 + ... + Q^n for the Cayley transform (1 + Q) / (1 - Q); n is 3 or `terms` - 1."""
    if terms <= 2:
        return one + 2 * skew if terms == 2 else one.expand_as(skew)
    power, total = skew, one + 2 * skew
    for _ in range(2, max(terms, 4) - 1):
        power = power @ skew
        total = total + 2 * power
    return total + power @ skew
