"""Rotary position embedding of image tokens (Su et al. 2021, arXiv 2104.09864), one group of channels per axis."""

import torch
from torch import Tensor


def rotary_table(size: tuple[int, int], dims: tuple[int, int, int], device: torch.device) -> Tensor:
    """Cosines and sines (h*w, sum(dims)/2, 2) in float32 for the positions (0, row, column) of an (h, w) grid.

    `dims` are the channels that each of the three coordinates rotates; angles are computed in float64.
    """
    height, width = size
    still, rows, columns = (_axis(n, dim).to(device) for n, dim in zip((1, height, width), dims, strict=True))
    grid = (still[None], rows[:, None], columns[None])
    return torch.cat([part.expand(height, width, -1, -1) for part in grid], dim=2).flatten(0, 1)


def _axis(count: int, dim: int, theta: float = 10_000.0) -> Tensor:
    """Cosines and sines (count, dim/2, 2) of the positions 0 .. count-1 along one axis."""
    frequencies = theta ** -(torch.arange(0, dim, 2, dtype=torch.float64, device="cpu") / dim)
    angles = torch.arange(count, dtype=torch.float64, device="cpu")[:, None] * frequencies
    return torch.stack((angles.cos(), angles.sin()), dim=-1).float()


def rotate(heads: Tensor, table: Tensor) -> Tensor:
    """Turn neighbouring channels of queries or keys (B, heads, N, dim) by the angles of a table (B, N, dim/2, 2)."""
    real, imaginary = heads.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = table[:, None].unbind(-1)
    turned = torch.stack((real * cos - imaginary * sin, imaginary * cos + real * sin), dim=-1)
    return turned.flatten(-2).to(heads.dtype)
