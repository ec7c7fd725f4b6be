"""The causal video autoencoder of Wan 2.1 (arXiv 2503.20314) and Wan 2.2, also that of Qwen-Image (arXiv 2508.02324).

Parameter names are those of the Hub's AutoencoderKLWan, which AutoencoderKLQwenImage shares.
"""

from collections.abc import Iterable, Iterator
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..autoencoder.autoencoder import Autoencoder
from ..autoencoder.config import AutoencoderConfig
from ..original_layout import OriginalLayout
from .config import CausalAutoencoderConfig
from .layers import CausalConv3d, ChannelNorm, Downsample, FrameAttention, Past, ResidualBlock, Upsample
from .original import original_layout
from .residual import DownLevel, UpLevel

_POINT = (1, 1, 1)


class _Middle(nn.Module):
    """Residual block, attention within frames and residual block at the lowest resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResidualBlock(channels, channels) for _ in range(2)])
        self.attentions = nn.ModuleList([FrameAttention(channels)])

    def forward(self, hidden: Tensor, past: Past | None) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](hidden, past)), past)


class _UpLevel(nn.Module):
    """Residual blocks of one resolution, followed by the upsampling to the next, if any."""

    def __init__(self, channels: int, out_channels: int, layers: int, upsample: Upsample | None) -> None:
        super().__init__()
        widths = [channels] + [out_channels] * (layers - 1)
        self.resnets = nn.ModuleList([ResidualBlock(width, out_channels) for width in widths])
        self.upsamplers = None if upsample is None else nn.ModuleList([upsample])

    def forward(self, hidden: Tensor, past: Past | None) -> Tensor:
        for layer in (*self.resnets, *(self.upsamplers or ())):
            hidden = layer(hidden, past)
        return hidden


class Encoder(nn.Module):
    """Maps videos (B, in_channels, T, H, W) to moments (B, 2 latent_channels, t, h, w)."""

    def __init__(self, config: CausalAutoencoderConfig) -> None:
        super().__init__()
        widths, self.patch = config.block_out_channels, config.patch
        self.conv_in = CausalConv3d(config.in_channels * config.patch**2, widths[0])
        self.down_blocks = nn.ModuleList(_down_levels(config) if config.residual else _down_layers(config))
        self.mid_block = _Middle(widths[-1])
        self.norm_out = ChannelNorm(widths[-1])
        self.conv_out = CausalConv3d(widths[-1], 2 * config.latent_channels)

    def forward(self, frames: Tensor, past: Past | None) -> Tensor:
        """Maps a part of a video (B, in_channels, T, H, W) to moments (B, 2 latent_channels, t, h, w)."""
        side = self.patch
        hidden = self.conv_in(rearrange(frames, "b c t (h p) (w q) -> b (c q p) t h w", p=side, q=side), past)
        for layer in self.down_blocks:
            hidden = layer(hidden, past)
        return self.conv_out(F.silu(self.norm_out(self.mid_block(hidden, past))), past)


class Decoder(nn.Module):
    """Maps latents (B, latent_channels, t, h, w) to videos (B, out_channels, T, H, W)."""

    def __init__(self, config: CausalAutoencoderConfig) -> None:
        super().__init__()
        widths, self.patch = config.block_out_channels[::-1], config.patch
        self.conv_in = CausalConv3d(config.latent_channels, widths[0])
        self.mid_block = _Middle(widths[0])
        self.up_blocks = nn.ModuleList(_up_levels(config))
        self.norm_out = ChannelNorm(widths[-1])
        self.conv_out = CausalConv3d(widths[-1], config.out_channels * config.patch**2)

    def forward(self, latents: Tensor, past: Past | None) -> Tensor:
        """Maps a part of a video's latents (B, latent_channels, t, h, w) to frames (B, out_channels, T, H, W)."""
        hidden, side = self.mid_block(self.conv_in(latents, past), past), self.patch
        for level in self.up_blocks:
            hidden = level(hidden, past)
        frames = self.conv_out(F.silu(self.norm_out(hidden)), past)
        return rearrange(frames, "b (c q p) t h w -> b c t (h p) (w q)", p=side, q=side)


def _down_layers(config: CausalAutoencoderConfig) -> Iterator[nn.Module]:
    """Residual blocks and downsamplings of the encoder, one after another without levels, as in Wan 2.1."""
    widths = config.block_out_channels
    for index, width in enumerate(widths):
        before = [widths[max(index - 1, 0)]] + [width] * (config.layers_per_block - 1)
        yield from (ResidualBlock(channels, width) for channels in before)
        if index < len(widths) - 1:
            yield Downsample(width, config.halves_time[index])


def _down_levels(config: CausalAutoencoderConfig) -> Iterator[DownLevel]:
    """Levels of the encoder of Wan 2.2."""
    widths = config.block_out_channels
    for index, width in enumerate(widths):
        down = Downsample(width, config.halves_time[index]) if index < len(widths) - 1 else None
        yield DownLevel(widths[max(index - 1, 0)], width, config.layers_per_block, down)


def _up_levels(config: CausalAutoencoderConfig) -> Iterator[nn.Module]:
    """Levels of the decoder. In Wan 2.1 it is the upsampling that halves the channels, in 2.2 the next level."""
    widths, doubles_time = config.block_out_channels[::-1], config.halves_time[::-1]
    level, left = (UpLevel, 1) if config.residual else (_UpLevel, 2)
    for index, width in enumerate(widths):
        channels = width if index == 0 else widths[index - 1] // left
        up = Upsample(width, width // left, doubles_time[index]) if index < len(widths) - 1 else None
        yield level(channels, width, config.layers_per_block + 1, up)


class CausalAutoencoder(Autoencoder):
    """Autoencoder between videos, or images, in [-1, 1] and unscaled latents.

    A video of 1 + k n frames has 1 + n latent frames, where k is `frames_per_latent` of the config. It is encoded and
    decoded one latent frame after another, so that memory depends little on its length; with `tile`, each in tiles. An
    image (B, C, H, W) is a video of one frame; its latents are (B, latent_channels, h, w).

    Args:
        config: the architecture.
    """

    config: CausalAutoencoderConfig
    config_class: ClassVar[type[AutoencoderConfig]] = CausalAutoencoderConfig

    @property
    def original(self) -> OriginalLayout:
        """The names of the authors' layout."""
        return original_layout(self.config)

    def build(self) -> None:
        latent = self.config.latent_channels
        self.encoder, self.decoder = Encoder(self.config), Decoder(self.config.for_decoder)
        self.quant_conv = CausalConv3d(2 * latent, 2 * latent, _POINT)
        self.post_quant_conv = CausalConv3d(latent, latent, _POINT)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes images or videos.

        Args:
            images: (B, C, H, W) or (B, C, T, H, W), in [-1, 1].

        Returns:
            Mean and log-variance (B, latent_channels, h, w) or (B, latent_channels, t, h, w) of the posterior.

        Raises:
            ValueError: if the number of frames is not 1 more than a multiple of `frames_per_latent`.
        """
        if images.ndim == 4:
            mean, logvar = self.encode(images[:, :, None])
            return mean[:, :, 0], logvar[:, :, 0]
        if (images.shape[2] - 1) % self.config.frames_per_latent:
            raise ValueError(
                f"{images.shape[2]} frames cannot be encoded; use 1 more than a multiple of "
                f"{self.config.frames_per_latent}, such as {1 + 20 * self.config.frames_per_latent}"
            )
        return super().encode(images)

    def _encode(self, images: Tensor) -> Tensor:
        first, rest = images[:, :, :1], images[:, :, 1:]
        parts = [first, *(rest.split(self.config.frames_per_latent, dim=2) if rest.shape[2] else ())]
        return self.quant_conv(_in_parts(self.encoder, parts))

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes unscaled latents.

        Args:
            latents: (B, latent_channels, h, w) or (B, latent_channels, t, h, w).

        Returns:
            Images (B, C, H, W) or videos (B, C, T, H, W), in [-1, 1].
        """
        if latents.ndim == 4:
            return self.decode(latents[:, :, None])[:, :, 0]
        return super().decode(latents).clamp(-1, 1)

    def _decode(self, latents: Tensor) -> Tensor:
        return _in_parts(self.decoder, self.post_quant_conv(latents).split(1, dim=2))


def _in_parts(network: nn.Module, parts: Iterable[Tensor]) -> Tensor:
    """Output of a causal network for parts of a video, along the time (axis 2)."""
    parts = list(parts)
    past = Past() if len(parts) > 1 else None
    return torch.cat([network(part, past) for part in parts], dim=2)
