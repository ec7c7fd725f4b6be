"""Rotary position embedding of image tokens (Su et al. 2021, arXiv 2104.09864), one group of channels per axis."""

import torch
from torch import Tensor
from torch.nn import functional as F


def rotary_table(size: tuple[int, int], dims: tuple[int, int, int], device: torch.device) -> Tensor:
    """Computes cosines and sines for the positions (0, row, column) of an (h, w) grid; angles are computed in float64.

    Args:
        size: (h, w) of the token grid.
        dims: number of channels that each of the three coordinates rotates.
        device: device of the result.

    Returns:
        (h*w, sum(dims)/2, 2) in float32.
    """
    height, width = size
    text, rows, columns = (_axis(n, dim).to(device) for n, dim in zip((1, height, width), dims, strict=True))
    grid = (text[None], rows[:, None], columns[None])
    return torch.cat([part.expand(height, width, -1, -1) for part in grid], dim=2).flatten(0, 1)


def _axis(count: int, dim: int, theta: float = 10_000.0) -> Tensor:
    """Cosines and sines (count, dim/2, 2) of the positions 0 .. count-1 along one axis."""
    frequencies = theta ** -(torch.arange(0, dim, 2, dtype=torch.float64, device="cpu") / dim)
    angles = torch.arange(count, dtype=torch.float64, device="cpu")[:, None] * frequencies
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
