"""A linear map from latents to pictures of their size, fitted to the checkpoint's own decoder."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from ..families import Family, VideoFamily

_SAMPLES: Final = 8
_SIDE: Final = 16  # latent positions along a side of what is decoded for the fit, at most
_COARSENESS: Final = (1, 4, 16)
"""Sizes of the details in the latents, in positions: those of real ones are of all sizes."""


@dataclass(frozen=True, eq=False)
class LinearPreview:
    """Linear map of each latent position to a pixel.

    Attributes:
        weight: (channels of the picture, channels of the latents).
        bias: (channels of the picture,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, latents: Tensor) -> Tensor:
        """Maps latents (B, C, h, w) to pictures (B, 3, h, w), or (B, C, T, h, w) to (B, T, 3, h, w), in [0, 1]."""
        mapped = torch.einsum("pc,bc...hw->b...phw", self.weight.to(latents.device), latents.float())
        return (mapped + self.bias.to(latents.device)[:, None, None]).clamp(0, 1)


def fit_linear_preview(family: Family, device: torch.device) -> LinearPreview:
    """Fits the map by least squares to a few latents decoded by the checkpoint's decoder, of videos with one frame.

    The latents are fixed: noise of unit variance with details of different sizes.

    Args:
        family: The networks.
        device: Where they compute.
    """
    side = max(family.patch, _SIDE // family.patch * family.patch)
    latents = _smooth_noise(family.latent_channels, side)
    moving = isinstance(family, VideoFamily)
    given = latents[:, :, None] if moving else latents
    decoded = torch.cat([family.decode(each.to(device)).float().cpu() for each in given.split(1)])
    decoded = decoded[:, 0] if moving else decoded
    pixels = F.adaptive_avg_pool2d(decoded, side).double()
    ones = torch.ones(latents.shape[0] * side * side, 1, dtype=torch.float64)
    known = torch.cat([latents.double().permute(0, 2, 3, 1).flatten(0, 2), ones], dim=1)
    solution = torch.linalg.lstsq(known, pixels.permute(0, 2, 3, 1).flatten(0, 2)).solution.float()
    return LinearPreview(solution[:-1].T.contiguous(), solution[-1])


def _smooth_noise(channels: int, side: int) -> Tensor:
    """Noise of unit variance with details of all sizes in `_COARSENESS`, (samples, channels, side, side)."""
    generator, total = torch.Generator().manual_seed(0), torch.zeros(_SAMPLES, channels, side, side)
    for coarse in _COARSENESS:
        size = max(1, side // coarse)
        noise = torch.randn(_SAMPLES, channels, size, size, generator=generator)
        total = total + F.interpolate(noise, size=(side, side), mode="nearest")
    return total / len(_COARSENESS) ** 0.5
