"""Stands where other families have an autoencoder, for networks that sample pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class PixelConfig:
    """What the config of an autoencoder says, for pixels.

    Attributes:
        latent_channels: Channels of the pictures.
    """

    latent_channels: int
    downscale: int = 1

    @property
    def block_out_channels(self) -> Sequence[int]:
        """Channels of the decoder's levels: those of the pictures."""
        return (self.latent_channels,)


class Pixels(nn.Module):
    """An autoencoder that changes nothing: a latent position is a pixel.

    Args:
        channels: Channels of the pictures.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.config = PixelConfig(channels)
        self._tile: int | None = None

    @property
    def tile(self) -> int | None:
        """Always None: without a decoder there is nothing to divide into tiles."""
        return self._tile

    @tile.setter
    def tile(self, side: int | None) -> None:
        if side is not None:
            raise ValueError(f"tile={side} has no effect: this checkpoint samples pixels, and has no autoencoder")

    def decode(self, latents: Tensor, **_: Any) -> Tensor:
        """Returns the pictures (B, C, H, W) unchanged."""
        return latents
