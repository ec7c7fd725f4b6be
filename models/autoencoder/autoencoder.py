"""The KL autoencoder of latent diffusion (Rombach et al. 2022), with the parameter names of the Hub's AutoencoderKL."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import SpatialAttention, current_name
from ..resnet import Downsample, ResnetBlock, Upsample
from ..tiling import decode_tiled, encode_tiled
from .config import AutoencoderConfig

_EPS = 1e-6


class _Level(nn.Module):
    """Residual blocks of one resolution, followed by the resampling to the next, if any."""

    def __init__(
        self, channels: int, out_channels: int, layers: int, groups: int, resample: nn.Module | None, name: str
    ) -> None:
        super().__init__()
        widths = [channels] + [out_channels] * (layers - 1)
        self.resnets = nn.ModuleList([ResnetBlock(width, out_channels, groups=groups, eps=_EPS) for width in widths])
        self._resample = name
        if resample is not None:
            self.add_module(name, nn.ModuleList([resample]))

    def forward(self, hidden: Tensor) -> Tensor:
        for resnet in self.resnets:
            hidden = resnet(hidden)
        for resample in getattr(self, self._resample, ()):
            hidden = resample(hidden)
        return hidden


class _Middle(nn.Module):
    """Residual block, self-attention (optional) and residual block at the lowest resolution."""

    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups=groups, eps=_EPS) for _ in range(2)])
        self.attentions = nn.ModuleList([SpatialAttention(channels, 1, groups, _EPS)] if attention else [])

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.resnets[0](hidden)
        for attention in self.attentions:
            hidden = attention(hidden)
        return self.resnets[1](hidden)


class Encoder(nn.Module):
    """Maps images (B, in_channels, H, W) to moments (B, 2 latent_channels, h, w)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        levels: list[nn.Module] = []
        for index, width in enumerate(widths):
            down = Downsample(width, pad_after=True) if index < len(widths) - 1 else None
            levels.append(
                _Level(widths[max(index - 1, 0)], width, config.layers_per_block, groups, down, "downsamplers")
            )
        self.down_blocks = nn.ModuleList(levels)
        self.mid_block = _Middle(widths[-1], groups, config.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, in_channels, H, W) to moments (B, 2 latent_channels, h, w)."""
        hidden = self.conv_in(images)
        for level in self.down_blocks:
            hidden = level(hidden)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(hidden))))


class Decoder(nn.Module):
    """Maps latents (B, latent_channels, h, w) to images (B, out_channels, H, W)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = _Middle(widths[0], groups, config.mid_block_add_attention)
        levels: list[nn.Module] = []
        for index, width in enumerate(widths):
            up = Upsample(width) if index < len(widths) - 1 else None
            levels.append(
                _Level(widths[max(index - 1, 0)], width, config.layers_per_block + 1, groups, up, "upsamplers")
            )
        self.up_blocks = nn.ModuleList(levels)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=_EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Maps latents (B, latent_channels, h, w) to images (B, out_channels, H, W)."""
        hidden = self.mid_block(self.conv_in(latents))
        for level in self.up_blocks:
            hidden = level(hidden)
        return self.conv_out(F.silu(self.conv_norm_out(hidden)))


class Autoencoder(nn.Module):
    """KL autoencoder between images in [-1, 1] and unscaled latents.

    Args:
        config: the architecture.
    """

    config_class: ClassVar[type[AutoencoderConfig]] = AutoencoderConfig
    """Class of its config."""
    encodes: bool = True
    """Whether it has an encoder."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self._tile: int | None = None
        self.build()

    def build(self) -> None:
        """Makes the networks of `config`."""
        config, latent = self.config, self.config.latent_channels
        self.encoder: nn.Module = Encoder(config)
        self.decoder: nn.Module = Decoder(config.for_decoder)
        self.quant_conv: nn.Module = nn.Conv2d(2 * latent, 2 * latent, 1) if config.use_quant_conv else nn.Identity()
        self.post_quant_conv: nn.Module = nn.Conv2d(latent, latent, 1) if config.use_post_quant_conv else nn.Identity()

    @property
    def tile(self) -> int | None:
        """Side in pixels of the tiles in which larger images are encoded and decoded (see `decode_tiled`), or None."""
        return self._tile

    @tile.setter
    def tile(self, side: int | None) -> None:
        self.config.check_tile(side)
        self._tile = side

    @staticmethod
    def rename(key: str) -> str:
        """Returns the current name of a tensor that older checkpoints of this architecture store under another name."""
        return current_name(key)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes images.

        Args:
            images: (B, 3, H, W), in [-1, 1].

        Returns:
            Mean and log-variance (B, latent_channels, h, w) of the posterior.
        """
        factor = self.config.downscale
        if self._tile is None or max(images.shape[-2:]) <= self._tile:
            moments = self._encode(images)
        else:
            moments = encode_tiled(self._encode, images, self._tile // factor, factor)
        mean, logvar = moments.chunk(2, dim=1)
        return mean, torch.clamp(logvar, -30.0, 20.0)

    def _encode(self, images: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(images))

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes unscaled latents.

        Args:
            latents: (B, latent_channels, h, w).

        Returns:
            Images (B, 3, H, W), nominally in [-1, 1].
        """
        factor = self.config.downscale
        if self._tile is None or max(latents.shape[-2:]) * factor <= self._tile:
            return self._decode(latents)
        return decode_tiled(self._decode, latents, self._tile // factor, factor)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(latents))

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructs images (B, 3, H, W) from their posterior mean."""
        return self.decode(self.encode(images)[0])
