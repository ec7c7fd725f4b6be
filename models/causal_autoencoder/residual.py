"""Levels of Wan 2.2's causal autoencoder: each has a shortcut without parameters across its blocks and resampling."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Downsample, Past, ResidualBlock, Upsample


class DownLevel(nn.Module):
    """Residual blocks and the downsampling to the next level, if any, beside a shortcut.

    Args:
        channels: channels of the input.
        out_channels: channels of the output.
        layers: number of residual blocks.
        downsample: the downsampling; None at the lowest resolution.
    """

    def __init__(self, channels: int, out_channels: int, layers: int, downsample: Downsample | None) -> None:
        super().__init__()
        self.channels = out_channels
        self.resnets = _blocks(channels, out_channels, layers)
        self.downsampler = downsample

    def forward(self, hidden: Tensor, past: Past | None) -> Tensor:
        """Maps a part of a video (B, channels, T, h, w) to (B, out_channels, T', h', w')."""
        shortcut = averaged(hidden, self.channels, *_steps(self.downsampler))
        for layer in (*self.resnets, *([] if self.downsampler is None else [self.downsampler])):
            hidden = layer(hidden, past)
        return hidden + shortcut


class UpLevel(nn.Module):
    """Residual blocks and the upsampling to the next level, beside a shortcut; at the last level, blocks alone.

    Args:
        channels: channels of the input.
        out_channels: channels of the output.
        layers: number of residual blocks.
        upsample: the upsampling; None at the highest resolution.
    """

    def __init__(self, channels: int, out_channels: int, layers: int, upsample: Upsample | None) -> None:
        super().__init__()
        self.channels = out_channels
        self.resnets = _blocks(channels, out_channels, layers)
        self.upsampler = upsample

    def forward(self, hidden: Tensor, past: Past | None) -> Tensor:
        """Maps a part of a video (B, channels, T, h, w) to (B, out_channels, T', h', w')."""
        before = hidden
        for layer in self.resnets:
            hidden = layer(hidden, past)
        if self.upsampler is None:
            return hidden
        hidden = self.upsampler(hidden, past)
        copied = repeated(before, self.channels, *_steps(self.upsampler))
        return hidden + copied[:, :, -hidden.shape[2] :]  # the first frame of a video stays a single one


def averaged(video: Tensor, channels: int, time: int, space: int) -> Tensor:
    """Means over neighbouring positions and channels.

    Args:
        video: (B, C, T, h, w).
        channels: channels of the result, a divisor of C time space^2.
        time: frames that become one. The first frame of a video has no partner, and is averaged with zeros.
        space: positions along each side that become one.

    Returns:
        (B, channels, ceil(T / time), h / space, w / space).
    """
    video = F.pad(video, (0, 0, 0, 0, -video.shape[2] % time, 0))
    folded = rearrange(video, "b c (t k) (h p) (w q) -> b (c k p q) t h w", k=time, p=space, q=space)
    return folded.unflatten(1, (channels, -1)).mean(2)


def repeated(video: Tensor, channels: int, time: int, space: int) -> Tensor:
    """Copies channels to neighbouring positions.

    Args:
        video: (B, C, T, h, w).
        channels: channels of the result, such that C divides channels time space^2.
        time: frames that each frame becomes.
        space: positions along each side that each position becomes.

    Returns:
        (B, channels, T time, h space, w space).
    """
    copies = video.repeat_interleave(channels * time * space**2 // video.shape[1], dim=1)
    return rearrange(copies, "b (c k p q) t h w -> b c (t k) (h p) (w q)", k=time, p=space, q=space)


def _blocks(channels: int, out_channels: int, layers: int) -> nn.ModuleList:
    widths = [channels] + [out_channels] * (layers - 1)
    return nn.ModuleList([ResidualBlock(width, out_channels) for width in widths])


def _steps(resample: Downsample | Upsample | None) -> tuple[int, int]:
    """By how much a resampling changes the number of frames, and each side."""
    if resample is None:
        return 1, 1
    return 1 if resample.time_conv is None else 2, 2
