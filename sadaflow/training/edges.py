"""Edge maps: what `tiny-controlnet` is steered by."""

import torch
from torch import Tensor
from torch.nn import functional as F

THRESHOLD = 0.1
"""Smallest step of a colour, of 1, that counts as an edge."""


def edge_maps(images: Tensor) -> Tensor:
    """Thin white lines on black (B, 3, H, W) where colours of images (B, 3, H, W) in [0, 1] change.

    As Canny's detector (Canny 1986): the largest gradient of the channels, blurred before, kept where it exceeds its
    two neighbours across the edge and a threshold.
    """
    smooth = _filter(images, torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16)
    slope = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    across, down = _filter(smooth, slope), _filter(smooth, slope.T)
    size, channel = (across.square() + down.square()).sqrt().max(dim=1, keepdim=True)
    flat = (across.gather(1, channel).abs() >= down.gather(1, channel).abs())
    padded = F.pad(size, (1, 1, 1, 1))
    sideways = torch.maximum(padded[..., 1:-1, :-2], padded[..., 1:-1, 2:] * (1 + 1e-6))
    vertical = torch.maximum(padded[..., :-2, 1:-1], padded[..., 2:, 1:-1] * (1 + 1e-6))
    edges = (size >= torch.where(flat, sideways, vertical)) & (size > THRESHOLD / 2)
    return edges.to(images.dtype).expand_as(images)


def _filter(images: Tensor, kernel: Tensor) -> Tensor:
    """Every channel filtered with a kernel (3, 3), the border repeated."""
    channels = images.shape[1]
    weight = kernel.to(images).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), weight, groups=channels)
