"""Rotary positions of Qwen-Image: pictures are centred, and the text lies on the diagonal beyond them."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ..rope import rotary_axis, rotary_grid

Size = tuple[int, int]
Axes = tuple[int, int, int]


def picture_table(index: int, size: Size, dims: Axes, device: torch.device) -> Tensor:
    """Computes cosines and sines of a picture's tokens.

    Args:
        index: index of the picture, 0 for the one that is sampled.
        size: (h, w) of its grid of tokens.
        dims: number of channels that each axis rotates.
        device: device of the result.

    Returns:
        (h*w, sum(dims)/2, 2) in float32, row by row.
    """
    return rotary_grid((range(index, index + 1), *map(_centred, size)), dims, device)


def text_table(sizes: Sequence[Size], length: int, dims: Axes, device: torch.device) -> Tensor:
    """Computes cosines and sines of text tokens, whose position is the same on all axes.

    Args:
        sizes: (h, w) of the grids of tokens of all pictures.
        length: number of text tokens.
        dims: number of channels that each axis rotates.
        device: device of the result.

    Returns:
        (length, sum(dims)/2, 2) in float32.
    """
    start = max(side // 2 for size in sizes for side in size)
    positions = torch.arange(start, start + length)
    return torch.cat([rotary_axis(positions, dim) for dim in dims], dim=-2).to(device)


def tables(sizes: tuple[Size, ...], length: int, dims: Axes, device: torch.device) -> tuple[Tensor, Tensor]:
    """Computes the tables of everything before the image (text, then pictures to edit), and of the image.

    Args:
        sizes: (h, w) of the grids of tokens: of the image, then of the pictures to edit.
        length: number of text tokens.
        dims: number of channels that each axis rotates.
        device: device of the results.
    """
    image, *edited = (picture_table(index, size, dims, device) for index, size in enumerate(sizes))
    return torch.cat((text_table(sizes, length, dims, device), *edited)), image


known_tables = lru_cache(maxsize=8)(tables)


def _centred(side: int) -> range:
    """Coordinates of `side` tokens along an axis: -(side - side // 2) .. side // 2 - 1."""
    return range(side // 2 - side, side // 2)
