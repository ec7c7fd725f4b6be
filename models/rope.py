"""Rotary position embedding of image tokens (Su et al. 2021, arXiv 2104.09864), one group of channels per axis."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def rotary_table(
    size: tuple[int, int], dims: tuple[int, int, int], device: torch.device, index: int = 0
) -> Tensor:
    """Computes cosines and sines for the positions (index, row, column) of an (h, w) grid.

    Angles are computed in float64.

    Args:
        size: (h, w) of the token grid.
        dims: number of channels that each of the three coordinates rotates.
        device: device of the result.
        index: coordinate of all tokens along the first axis.

    Returns:
        (h*w, sum(dims)/2, 2) in float32.
    """
    return rotary_grid((range(index, index + 1), range(size[0]), range(size[1])), dims, device)


def rotary_grid(axes: Sequence[range], dims: Sequence[int], device: torch.device, theta: float = 10_000.0) -> Tensor:
    """Computes cosines and sines for all positions of a grid, the last axis running fastest, with angles in float64.

    Args:
        axes: coordinates along each axis.
        dims: number of channels that each axis rotates.
        device: device of the result.
        theta: base of the frequencies.

    Returns:
        (product of the axes' lengths, sum(dims)/2, 2) in float32.
    """
    lengths = [len(axis) for axis in axes]
    parts = []
    for index, (axis, dim) in enumerate(zip(axes, dims, strict=True)):
        table = rotary_axis(torch.tensor(axis, dtype=torch.float64), dim, theta).to(device)
        shape = [1] * len(axes)
        shape[index] = lengths[index]
        parts.append(table.view(*shape, dim // 2, 2).expand(*lengths, -1, -1))
    return torch.cat(parts, dim=-2).flatten(0, -3)


def rotary_axis(positions: Tensor, dim: int, theta: float = 10_000.0) -> Tensor:
    """Computes cosines and sines (..., dim/2, 2) in float32 of positions (...) along an axis of `dim` channels."""
    device = positions.device
    frequencies = theta ** -(torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim)
    angles = positions.to(torch.float64)[..., None] * frequencies
    return torch.stack((angles.cos(), angles.sin()), dim=-1).float()


def after_text(table: Tensor, length: int) -> Tensor:
    """Prepends `length` unrotated text tokens to a table: (B, N, dim/2, 2) to (B, length + N, dim/2, 2)."""
    identity = F.pad(table.new_ones(table.shape[0], length, table.shape[2], 1), (0, 1))
    return torch.cat((identity, table), dim=1)


def rotate(heads: Tensor, table: Tensor) -> Tensor:
    """Rotates neighbouring channels of queries or keys by the angles of a table.

    Each pair is multiplied as a complex number, in float32 at least.

    Args:
        heads: (B, L, heads, dim).
        table: (B, L, dim/2, 2), cosines and sines.

    Returns:
        (B, L, heads, dim) in the dtype of `heads`.
    """
    pairs = heads.to(torch.promote_types(heads.dtype, torch.float32)).unflatten(-1, (-1, 2))
    table = table[:, :, None].to(pairs.dtype)
    if torch.compiler.is_compiling():  # the compiler fuses real but not complex arithmetic
        real, imaginary = pairs.unbind(-1)
        cos, sin = table.unbind(-1)
        turned = torch.stack((real * cos - imaginary * sin, imaginary * cos + real * sin), dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(table))
    return turned.flatten(-2).to(heads.dtype)
