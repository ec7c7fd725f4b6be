"""Decoding a map of latents in overlapping tiles, so that memory is that of a tile and not of the picture."""

from collections.abc import Callable

import torch
from torch import Tensor

SHARED = 4
"""Neighbouring tiles share at least this part (a quarter) of their side."""


def decode_tiled(decode: Callable[[Tensor], Tensor], latents: Tensor, tile: int, factor: int) -> Tensor:
    """Pictures (B, C, h factor, w factor) of `latents` (B, c, h, w), by `decode` of at most `tile` positions a side.

    Tiles are of one size and spread evenly; where two meet, one fades linearly into the other over a quarter of a tile.
    Convolutions, norms and attention see one tile alone: the result is near that of the whole, not equal to it.
    """
    height, width = latents.shape[2:]
    down, across = _spans(height, tile, factor), _spans(width, tile, factor)
    canvas: Tensor | None = None
    for top, rows in down:
        for left, columns in across:
            part = latents[:, :, top : top + len(rows) // factor, left : left + len(columns) // factor]
            picture = decode(part).float() * (rows[:, None] * columns).to(latents.device)
            if canvas is None:
                canvas = picture.new_zeros(*picture.shape[:2], height * factor, width * factor)
            y, x = top * factor, left * factor
            canvas[:, :, y : y + len(rows), x : x + len(columns)] += picture
    assert canvas is not None
    return canvas.to(latents.dtype)


def _spans(length: int, tile: int, factor: int) -> list[tuple[int, Tensor]]:
    """Where tiles begin along an axis, and the weights of their pixels, which sum to one over the tiles."""
    tile = min(tile, length)
    shared = tile // SHARED
    count = max(1, -(-(length - shared) // (tile - shared)))
    starts = [index * (length - tile) // max(count - 1, 1) for index in range(count)]
    ramp = shared * factor
    # Neighbours that share more than a ramp needs have it in the middle, away from the borders of both.
    seams = [(one + tile + other - shared) * factor // 2 for one, other in zip(starts, starts[1:], strict=False)]
    spans = []
    for index, start in enumerate(starts):
        pixels = torch.arange(start * factor, (start + tile) * factor)
        weights = torch.ones(len(pixels))
        if index > 0:
            weights *= ((pixels - seams[index - 1]) / ramp).clamp(0, 1)
        if index < len(seams):
            weights *= 1 - ((pixels - seams[index]) / ramp).clamp(0, 1)
        spans.append((start, weights))
    return spans
