"""Residual convolution blocks and resampling, shared by the U-Net and the autoencoder."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .conv import Conv2d


class ResnetBlock(nn.Module):
    """Two group-normed 3x3 convolutions with a residual; between them a shift of the channels that depends on time.

    Args:
        channels: input channels.
        out_channels: output channels.
        groups: groups of the norms.
        eps: epsilon of the norms.
        time_dim: width of the time embedding; None for a block without time.
    """

    regions: ClassVar[tuple[str, ...]] = ("forward",)

    def __init__(
        self, channels: int, out_channels: int, *, groups: int, eps: float, time_dim: int | None = None
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv1 = Conv2d(channels, out_channels, 3, padding=1)
        self.time_emb_proj = None if time_dim is None else nn.Linear(time_dim, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=eps)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = None if channels == out_channels else Conv2d(channels, out_channels, 1)

    def forward(self, hidden: Tensor, shift: Tensor | None = None) -> Tensor:
        """Maps (B, channels, h, w) to (B, out_channels, h, w).

        Args:
            hidden: (B, channels, h, w).
            shift: (B, out_channels), `time_emb_proj` of an activated time embedding, or None.
        """
        inner = self.conv1(F.silu(self.norm1(hidden)))
        if shift is not None:
            inner = inner.add_(shift[:, :, None, None])
        inner = self.conv2(F.silu(self.norm2(inner)))
        return inner.add_(hidden if self.conv_shortcut is None else self.conv_shortcut(hidden))


class Downsample(nn.Module):
    """Strided 3x3 convolution that halves both sides.

    Args:
        channels: channels of the map.
        pad_after: pad only right and bottom, as the KL autoencoder does.
    """

    def __init__(self, channels: int, *, pad_after: bool = False) -> None:
        super().__init__()
        self.pad_after = pad_after
        self.conv = Conv2d(channels, channels, 3, stride=2, padding=0 if pad_after else 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, C, h, w) to (B, C, h/2, w/2)."""
        return self.conv(F.pad(hidden, (0, 1, 0, 1)) if self.pad_after else hidden)


class Upsample(nn.Module):
    """Nearest-neighbour upsampling followed by a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: Tensor, size: torch.Size | None = None) -> Tensor:
        """Maps (B, C, h, w) to (B, C, *size); `size` defaults to twice the input's."""
        target = (2 * hidden.shape[-2], 2 * hidden.shape[-1]) if size is None else (size[0], size[1])
        return self.conv(F.interpolate(hidden, size=target, mode="nearest"))
