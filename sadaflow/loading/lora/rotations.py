"""Adapters that rotate a weight: OFT (Qiu et al. 2023, arXiv 2306.07280) and BOFT."""

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
        if len(found) == 4:
            raise ValueError("oft_blocks of four dimensions are BOFT, which is not supported: merge it with LyCORIS")
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
        rotation = one + scale * (_cayley(skew) - one)
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
            return _cayley(-skew)
        return _neumann(skew, one, self.settings.terms)


@dataclass(frozen=True, eq=False)
class Butterfly:
    """BOFT of PEFT (Liu et al. 2023, arXiv 2311.06243): inputs are rotated by a product of sparse rotations.

    Attributes:
        blocks: Shape (factors, blocks, size, size); the skew-symmetric matrices are (blocks - blocks^T) / 2.
        rescale: Factors of the outputs.
    """

    blocks: Tensor
    rescale: Tensor

    def check(self, shape: tuple[int, ...]) -> None:
        inputs, found = math.prod(shape[1:]), tuple(self.blocks.shape)
        whole = len(found) == 4 and found[2] == found[3] and found[1] * found[2] == inputs
        even = whole and (found[0] == 1 or (found[2] % 2 == 0 and found[1] % 2 ** (found[0] - 1) == 0))
        if not even or self.rescale.numel() != shape[0]:
            raise ValueError(f"boft_R of shape {found} and boft_s of {self.rescale.numel()} numbers do not fit {shape}")

    def apply(self, weight: Tensor, original: Callable[[], Tensor], scale: float) -> Tensor:
        rows = weight.reshape(len(weight), -1)
        factors, blocks, size, _ = self.blocks.shape
        for index, part in enumerate(self.blocks.to(weight)):
            skew = (part - part.mT) / 2
            rotation = _cayley(-skew)
            order = _butterfly(rows.shape[1], size, 2**index if factors > 1 else 0).to(weight.device)
            mixed = torch.empty_like(rows)
            mixed[:, order] = rows
            turned = torch.einsum("kij,okj->oki", rotation, mixed.reshape(len(rows), blocks, size))
            rows = turned.reshape(rows.shape)[:, order]
        changed = (rows * self.rescale.to(weight).reshape(-1, 1)).reshape(weight.shape)
        return weight + scale * (changed - weight)


def _butterfly(inputs: int, size: int, blocks: int) -> Tensor:
    """The order in which a factor of BOFT pairs halves of blocks: in every `blocks` of them even halves come first.

    `blocks` 0 is the order as it is.
    """
    order = torch.arange(inputs)
    if not blocks:
        return order
    halves = order.reshape(-1, 2 * blocks, size // 2)
    return torch.cat((halves[:, 0::2], halves[:, 1::2]), dim=1).flatten()


def _cayley(skew: Tensor) -> Tensor:
    """The rotations (1 + Q) / (1 - Q) of skew-symmetric matrices (..., size, size)."""
    one = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    return torch.linalg.solve(one - skew, one + skew, left=False)


def _neumann(skew: Tensor, one: Tensor, terms: int) -> Tensor:
    """PEFT's series 1 + 2 Q + 2 Q^2 + ... + Q^n for the Cayley transform (1 + Q) / (1 - Q); n is 3 or `terms` - 1."""
    if terms <= 2:
        return one + 2 * skew if terms == 2 else one.expand_as(skew)
    power, total = skew, one + 2 * skew
    for _ in range(2, max(terms, 4) - 1):
        power = power @ skew
        total = total + 2 * power
    return total + power @ skew
