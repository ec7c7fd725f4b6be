"""The tiny autoencoder TAESD (Ollin Boer Bohan, 2023), with the parameter names of the Hub's AutoencoderTiny."""

from typing import Final

from torch import Tensor, nn

from .config import TinyAutoencoderConfig

_RANGE: Final = 3.0
"""Latents are squashed to within plus and minus this value before they are decoded."""


class _Block(nn.Module):
    """Three convolutions with ReLU between them, a residual, and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _convolution(channels, channels), nn.ReLU(),
            _convolution(channels, channels), nn.ReLU(),
            _convolution(channels, channels),
        )  # fmt: skip

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, C, h, w) to (B, C, h, w)."""
        return (self.conv(hidden) + hidden).relu()


def _convolution(channels: int, out_channels: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, padding=1, stride=stride, bias=bias)


class _Encoder(nn.Module):
    """Maps images (B, in_channels, H, W) in [0, 1] to latents (B, latent_channels, h, w)."""

    def __init__(self, config: TinyAutoencoderConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = config.encoder_block_out_channels[0]
        for level, blocks in enumerate(config.num_encoder_blocks):
            first = (
                _convolution(width, width, stride=2, bias=False) if level else _convolution(config.in_channels, width)
            )
            layers += [first, *(_Block(width) for _ in range(blocks))]
        self.layers = nn.Sequential(*layers, _convolution(width, config.latent_channels))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class _Decoder(nn.Module):
    """Maps latents (B, latent_channels, h, w) to images (B, out_channels, H, W), nominally in [0, 1]."""

    def __init__(self, config: TinyAutoencoderConfig) -> None:
        super().__init__()
        width, last = config.decoder_block_out_channels[0], len(config.num_decoder_blocks) - 1
        layers: list[nn.Module] = [_convolution(config.latent_channels, width), nn.ReLU()]
        for level, blocks in enumerate(config.num_decoder_blocks):
            layers += [_Block(width) for _ in range(blocks)]
            if level < last:
                layers += [
                    nn.Upsample(scale_factor=config.upsampling_scaling_factor),
                    _convolution(width, width, bias=False),
                ]
        self.layers = nn.Sequential(*layers, _convolution(width, config.out_channels))

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers((latents / _RANGE).tanh() * _RANGE)


class TinyAutoencoder(nn.Module):
    """Autoencoder of few convolutions between images in [-1, 1] and the latents of a diffusion network.

    Args:
        config: the architecture.
        encodes: whether it has an encoder; files may hold the decoder alone.
    """

    def __init__(self, config: TinyAutoencoderConfig, *, encodes: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config) if encodes else None
        self.decoder = _Decoder(config)

    def encode(self, images: Tensor) -> Tensor:
        """Encodes images (B, 3, H, W) in [-1, 1] to latents (B, latent_channels, h, w).

        Raises:
            ValueError: if there is no encoder.
        """
        if self.encoder is None:
            raise ValueError("this tiny autoencoder has a decoder alone, and cannot encode images")
        return self.encoder((images + 1) / 2)

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes latents (B, latent_channels, h, w) to images (B, 3, H, W), nominally in [-1, 1]."""
        return self.decoder(latents) * 2 - 1
