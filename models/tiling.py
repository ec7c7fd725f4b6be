"""Decodes latents and encodes images in overlapping tiles, so that memory depends on the tile, not on the image."""

from collections.abc import Callable

import torch
from torch import Tensor

SHARED = 4
"""Neighbouring tiles overlap by at least 1 / SHARED of their side."""


def decode_tiled(decode: Callable[[Tensor], Tensor], latents: Tensor, tile: int, factor: int) -> Tensor:
    """Decodes latents in overlapping tiles.

    All tiles have the same size and are spread evenly; where two overlap, one fades linearly into the other over a
    quarter of a tile. Convolutions, norms and attention see one tile only, so the result is close but not equal to
    decoding the whole.

    Args:
        decode: maps latents (B, c, ..., h, w) to images or videos (B, C, ..., h factor, w factor).
        latents: (B, c, ..., h, w).
        tile: largest side of a tile, in latent positions.
        factor: pixels per latent position.

    Returns:
        Images or videos (B, C, ..., h factor, w factor) in the dtype of `latents`.
    """
    return _tiled(decode, latents, tile, 1, factor)


def encode_tiled(encode: Callable[[Tensor], Tensor], images: Tensor, tile: int, factor: int) -> Tensor:
    """Encodes images in the tiles in which `decode_tiled` decodes their latents; tiles fade in the same way.

    Args:
        encode: maps images (B, C, ..., h factor, w factor) to latents (B, c, ..., h, w).
        images: (B, C, ..., H, W), with sides divisible by `factor`.
        tile: largest side of a tile, in latent positions.
        factor: pixels per latent position.

    Returns:
        Latents (B, c, ..., H / factor, W / factor) in the dtype of `images`.
    """
    return _tiled(encode, images, tile, factor, 1)


def _tiled(run: Callable[[Tensor], Tensor], whole: Tensor, tile: int, read: int, written: int) -> Tensor:
    """Applies `run` to tiles of `whole` (B, C, ..., h read, w read); its output has `written` elements a position."""
    height, width = (side // read for side in whole.shape[-2:])
    down, across = _spans(height, tile, written), _spans(width, tile, written)
    canvas: Tensor | None = None
    for top, rows in down:
        for left, columns in across:
            bottom, right = top + len(rows) // written, left + len(columns) // written
            part = run(whole[..., top * read : bottom * read, left * read : right * read]).float()
            part = part * (rows[:, None] * columns).to(whole.device)
            if canvas is None:
                canvas = part.new_zeros(*part.shape[:-2], height * written, width * written)
            canvas[..., top * written : bottom * written, left * written : right * written] += part
    assert canvas is not None
    return canvas.to(whole.dtype)


def _spans(length: int, tile: int, factor: int) -> list[tuple[int, Tensor]]:
    """Start of each tile along an axis, and the weights of its pixels, which sum to 1 over the tiles."""
    tile = min(tile, length)
    shared = tile // SHARED
    count = max(1, -(-(length - shared) // (tile - shared)))
    starts = [index * (length - tile) // max(count - 1, 1) for index in range(count)]
    ramp = shared * factor
    # If neighbours overlap by more than the ramp, the ramp lies in the middle, away from the borders of both.
    seams = [(left + tile + right - shared) * factor // 2 for left, right in zip(starts, starts[1:], strict=False)]
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
