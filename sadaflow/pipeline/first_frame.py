"""What networks read of the picture that is the first frame of a video."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sadaflow.models import Autoencoder

from ..families.encoding import encode_images
from ..files.images import from_array, is_pil


def beside_video(images: Tensor, vae: Autoencoder, shape: torch.Size, frames_per_latent: int) -> Tensor:
    """The mask of the given frame, and the latents of a video that has grey frames after it.

    Args:
        images: Pictures (1 or B, 3, H, W) in [-1, 1].
        vae: The autoencoder of videos.
        shape: Shape of the states, (B, C, T, h, w).
        frames_per_latent: Frames of a latent frame after the first.

    Returns:
        (1 or B, frames_per_latent + C, T, h, w).
    """
    frames = (shape[2] - 1) * frames_per_latent
    video = F.pad(images[:, :, None], (0, 0, 0, 0, 0, frames))
    latents = encode_images(vae, video)
    mask = latents.new_zeros(len(latents), frames_per_latent, *latents.shape[2:])
    mask[:, :, 0] = 1
    return torch.cat([mask, latents], dim=1)


def after_first(x: Tensor) -> Tensor:
    """Which latent frames of states (B, C, T, h, w) come after the first, bool (1, 1, T, 1, 1)."""
    return (torch.arange(x.shape[2], device=x.device) > 0).view(1, 1, -1, 1, 1)


def square(picture: Any, side: int) -> Tensor:
    """A picture stretched to a square by the bicubic filter: RGB (3, side, side) in [0, 1].

    Args:
        picture: PIL image, array, or tensor (3, H, W) in [0, 1].
        side: Height and width.
    """
    if is_pil(picture):
        from PIL.Image import Resampling

        small = picture.convert("RGB").resize((side, side), Resampling.BICUBIC)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255
    pixels = picture if isinstance(picture, Tensor) else from_array(picture, tuple(picture.shape[:2]))
    stretched = F.interpolate(pixels[None].float(), (side, side), mode="bicubic", antialias=True)
    return stretched[0].clamp(0, 1)
