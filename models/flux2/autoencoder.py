"""The autoencoder of FLUX.2: latents in patches, normalised by the statistics of a batch norm."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from ..autoencoder.autoencoder import Autoencoder
from ..autoencoder.config import AutoencoderConfig
from ..autoencoder.fields import TABLE as KL_TABLE
from ..config import NONE, POSITIVE, WIDTHS, Table

PATCH = 2
"""Positions of the encoder's output along each side of a latent position."""
TABLE = Table(
    "AutoencoderKLFlux2",
    names=("AutoencoderKLFlux2",),
    kinds={
        **{name: kind for name, kind in KL_TABLE.kinds.items() if not name.endswith(("factor", "mean", "std"))},
        "batch_norm_eps": POSITIVE,
        "decoder_block_out_channels": WIDTHS | NONE,
    },
    only={**KL_TABLE.only, "patch_size": (PATCH,)},
    ignored={**KL_TABLE.ignored, "batch_norm_momentum": "matters in training alone"},
    needs=KL_TABLE.needs,
)


@dataclass(frozen=True)
class Flux2AutoencoderConfig(AutoencoderConfig):
    """Architecture of a FLUX.2 autoencoder; field names and defaults are those of its config.json.

    Attributes:
        batch_norm_eps: added to the variances of the latents' channels.
        decoder_block_out_channels: channels of each level of the decoder, outermost first; None means
            block_out_channels.
    """

    table: ClassVar[Table] = TABLE

    latent_channels: int = 32
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    scaling_factor: float = 1.0
    batch_norm_eps: float = 1e-4
    decoder_block_out_channels: tuple[int, ...] | None = None

    @property
    def downscale(self) -> int:
        return PATCH * super().downscale

    @property
    def network_channels(self) -> int:
        return PATCH**2 * self.latent_channels

    @property
    def for_decoder(self) -> Self:
        return replace(self, block_out_channels=self.decoder_block_out_channels or self.block_out_channels)


class Flux2Autoencoder(Autoencoder):
    """KL autoencoder between images in [-1, 1] and the latents (B, 4 latent_channels, h, w) of the transformer.

    Args:
        config: the architecture.
    """

    config: Flux2AutoencoderConfig
    config_class: ClassVar[type[AutoencoderConfig]] = Flux2AutoencoderConfig

    def __init__(self, config: Flux2AutoencoderConfig) -> None:
        super().__init__(config)
        self.bn = nn.BatchNorm2d(config.network_channels, config.batch_norm_eps, affine=False)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes images.

        Args:
            images: (B, 3, H, W), in [-1, 1].

        Returns:
            Mean and log-variance (B, 4 latent_channels, h, w) of the posterior of the latents.
        """
        mean, logvar = super().encode(images)
        centre, deviation = self._statistics()
        return (mean - centre) / deviation, logvar - 2 * deviation.log()

    def _encode(self, images: Tensor) -> Tensor:
        return rearrange(super()._encode(images), "b c (h p) (w q) -> b (c p q) h w", p=PATCH, q=PATCH)

    def _decode(self, latents: Tensor) -> Tensor:
        centre, deviation = self._statistics()
        latents = latents * deviation + centre
        return super()._decode(rearrange(latents, "b (c p q) h w -> b c (h p) (w q)", p=PATCH, q=PATCH))

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C, 1, 1) of the latents' channels before normalisation."""
        mean, variance = self.bn.running_mean, self.bn.running_var
        assert mean is not None and variance is not None
        return mean[:, None, None], torch.sqrt(variance + self.bn.eps)[:, None, None]
