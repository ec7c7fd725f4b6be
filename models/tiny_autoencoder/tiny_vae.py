"""A tiny autoencoder in the place of a checkpoint's autoencoder."""

import torch
from torch import Tensor

from ..autoencoder.autoencoder import Autoencoder
from ..autoencoder.config import AutoencoderConfig
from .tiny_autoencoder import TinyAutoencoder

_CERTAIN = -30.0
"""Log-variance of a posterior that is a point."""


class TinyVae(Autoencoder):
    """Decodes latents by a tiny autoencoder, and encodes images if that has an encoder.

    Args:
        tiny: the tiny autoencoder.

    Raises:
        ValueError: if its levels do not double the resolution.
    """

    def __init__(self, tiny: TinyAutoencoder) -> None:
        config = tiny.config
        if config.upsampling_scaling_factor != 2:
            raise ValueError(f"upsampling_scaling_factor={config.upsampling_scaling_factor} is not supported; use 2")
        super().__init__(
            AutoencoderConfig(
                config.in_channels,
                config.out_channels,
                config.latent_channels,
                config.decoder_block_out_channels,
                scaling_factor=config.scaling_factor,
                shift_factor=config.shift_factor,
            )
        )
        self.tiny = tiny
        self.encodes = tiny.encoder is not None

    def build(self) -> None:
        """Makes no networks: `tiny` has them."""

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes images (B, 3, H, W) in [-1, 1]; see `Autoencoder.encode`.

        Raises:
            ValueError: if there is no encoder.
        """
        latents = self.tiny.encode(images)
        return latents, torch.full_like(latents, _CERTAIN)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.tiny.decode(latents)
