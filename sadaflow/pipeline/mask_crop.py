"""Repaints a part of a picture at a larger size, and puts pictures back under their masks."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Box = tuple[int, int, int, int]
Size = tuple[int, int]


@dataclass(frozen=True)
class Crop:
    """A picture, its mask, and the part that is repainted.

    Attributes:
        picture: The whole picture (3, H, W) in [0, 1].
        mask: Its mask (1, H, W) in [0, 1].
        box: Left, top, right and bottom of the part, in pixels.
    """

    picture: Tensor
    mask: Tensor
    box: Box

    def enlarged(self, planes: Tensor, size: Size) -> Tensor:
        """The part of `planes` (C, H, W), resized to fit in `size`; where its shape is another, its edges go on."""
        left, top, right, bottom = self.box
        part = planes[:, top:bottom, left:right]
        (height, width), (own_height, own_width) = size, part.shape[1:]
        wide = width / height < own_width / own_height
        fitted = (own_height * width // own_width, width) if wide else (height, own_width * height // own_height)
        inner = resized(part, (max(fitted[0], 1), max(fitted[1], 1)))
        before = (height // 2 - inner.shape[1] // 2, width // 2 - inner.shape[2] // 2)
        after = (height - inner.shape[1] - before[0], width - inner.shape[2] - before[1])
        return F.pad(inner[None], (before[1], after[1], before[0], after[0]), mode="replicate")[0]

    def restored(self, made: Tensor) -> Tensor:
        """The whole picture with `made` (3, h, w) put under the mask, at the place of the part."""
        left, top, right, bottom = self.box
        height, width = bottom - top, right - left
        own_height, own_width = made.shape[1:]
        wide = width / height > own_width / own_height
        covering = (own_height * width // own_width, width) if wide else (height, own_width * height // own_height)
        part = resized((made * 255).round() / 255, covering)  # as a picture of 8 bits, so that files agree with it
        down, across = covering[0] // 2 - height // 2, covering[1] // 2 - width // 2
        canvas = torch.zeros_like(self.picture)
        canvas[:, top:bottom, left:right] = part[:, down : down + height, across : across + width]
        return pasted(canvas, self.picture, self.mask)


def crop_of(picture: Tensor, mask: Tensor, size: Size, margin: int) -> Crop:
    """The part of a picture around its mask.

    It is the smallest rectangle around everything that is not black, with a margin, and grows to the shape of `size` as
    far as the picture reaches.

    Args:
        picture: (3, H, W) in [0, 1].
        mask: (1, H, W) in [0, 1], not all black.
        size: Height and width that the part is resized to.
        margin: Pixels of margin.
    """
    whole_height, whole_width = mask.shape[1:]
    rows, columns = (mask[0] > 0).any(1).nonzero().flatten(), (mask[0] > 0).any(0).nonzero().flatten()
    top, bottom = max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, whole_height)
    left, right = max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, whole_width)
    shape = size[1] / size[0]
    if (right - left) / (bottom - top) > shape:
        top, bottom = _grown(top, bottom, int((right - left) / shape), whole_height)
    else:
        left, right = _grown(left, right, int((bottom - top) * shape), whole_width)
    return Crop(picture, mask, (left, top, right, bottom))


def pasted(made: Tensor, picture: Tensor, mask: Tensor) -> Tensor:
    """`made` (..., 3, H, W) where the mask is white, `picture` where it is black, and between in proportion."""
    return mask * made + (1 - mask) * picture


def resized(planes: Tensor, size: Size) -> Tensor:
    """Planes (C, h, w) in [0, 1], resized to (C, H, W) by the Lanczos filter; those of 8 bits stay so."""
    if tuple(planes.shape[1:]) == size:
        return planes
    from PIL import Image

    levels = planes.float().cpu() * 255
    eight = bool(((levels - levels.round()).abs() < 1e-3).all())
    images = [Image.fromarray((plane.round().byte() if eight else plane).numpy()) for plane in levels]
    made = [np.asarray(image.resize((size[1], size[0]), Image.Resampling.LANCZOS)) for image in images]
    return torch.from_numpy(np.stack(made).astype(np.float32).clip(0, 255) / 255)


def _grown(low: int, high: int, length: int, limit: int) -> tuple[int, int]:
    """The interval grown to `length` on both sides equally, and moved into 0 .. `limit`."""
    more = length - (high - low)
    low, high = low - more // 2, high + more - more // 2
    shift = max(high - limit, 0)
    low, high = low - shift, high - shift
    if low < 0:
        low, high = 0, high - low
    return low, min(high, limit)
