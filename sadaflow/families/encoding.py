"""Encodes pictures as latents in the backbone's scaling, the inverse of `decode_latents`."""

import torch
from torch import Tensor

from sadaflow.models import Autoencoder

from ..sampling.finite_check import require_finite_output


def encode_images(vae: Autoencoder, images: Tensor, noise: Tensor | None = None) -> Tensor:
    """Encode images, one at a time.

    Args:
        vae: The autoencoder.
        images: Images (B, 3, H, W), or videos (B, 3, T, H, W), in [-1, 1].
        noise: Unit-normal noise in the shape of the latents with which the posterior is sampled; None takes its mode.

    Returns:
        Latents (B, C, h, w), or (B, C, t, h, w), in the backbone's scaling, float32.

    Raises:
        FloatingPointError: If they hold NaN or infinity; the message names the dtype and the samples.
    """
    dtype = next(vae.parameters()).dtype
    moments = [vae.encode(image.to(dtype)) for image in images.split(1)]
    mean, logvar = (torch.cat(part).float() for part in zip(*moments, strict=True))
    latents = mean if noise is None else mean + (0.5 * logvar).exp() * noise.to(mean)
    require_finite_output("vae", dtype, latents)
    return vae.config.scaled(latents)
