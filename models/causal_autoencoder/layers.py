"""Layers of the causal video autoencoder: no frame of the output depends on later frames of the input."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import attend


class Past:
    """The last frames that each causal layer has read of a video, which is encoded or decoded in parts."""

    def __init__(self) -> None:
        self._frames: dict[nn.Module, Tensor] = {}

    def before(self, layer: nn.Module) -> Tensor | None:
        """Frames (B, C, n, h, w) that a layer keeps from the parts before; None at the start of the video."""
        return self._frames.get(layer)

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Keeps the last frames (B, C, n, h, w) of a part for a layer's next."""
        self._frames[layer] = frames.clone()


class CausalConv3d(nn.Conv3d):
    """3D convolution whose output at each frame depends on this frame and those before it.

    Args:
        channels: channels of the input.
        out_channels: channels of the output.
        kernel: size of the kernel (frames, height, width).
    """

    def __init__(self, channels: int, out_channels: int, kernel: tuple[int, int, int] = (3, 3, 3)) -> None:
        super().__init__(channels, out_channels, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2))

    def forward(self, hidden: Tensor, past: Past | None = None) -> Tensor:
        """Maps (B, channels, T, h, w) to (B, out_channels, T, h, w).

        Args:
            hidden: a part of a video.
            past: what the layers have read of the parts before; None for a whole video.
        """
        reach = self.kernel_size[0] - 1
        if not reach:
            return super().forward(hidden)
        before = None if past is None else past.before(self)
        extended = F.pad(hidden, (0, 0, 0, 0, reach, 0)) if before is None else torch.cat([before, hidden], dim=2)
        if past is not None:
            past.keep(self, extended[:, :, -reach:])
        if before is None and hidden.shape[2] == 1:
            return self._first(hidden)
        return super().forward(extended)

    def _first(self, hidden: Tensor) -> Tensor:
        """The output at the first frame of a video, whose kernel meets zeros everywhere but at its last slice."""
        first = F.conv2d(hidden[:, :, 0], self.weight[:, :, -1], self.bias, padding=self.padding[1:])
        return first[:, :, None]


class ChannelNorm(nn.Module):
    """Divides by the root mean square over the channels of each position, in float32 at least.

    Args:
        channels: number of channels.
        axes: number of axes after the channels.
    """

    smallest: ClassVar[float] = 1e-12

    def __init__(self, channels: int, axes: int = 3) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * axes))

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, channels, ...) to the same shape."""
        exact = torch.promote_types(hidden.dtype, torch.float32)
        length = torch.linalg.vector_norm(hidden, dim=1, keepdim=True, dtype=exact).clamp_min(self.smallest)
        return (hidden / length).to(hidden.dtype) * (hidden.shape[1] ** 0.5 * self.gamma)


class ResidualBlock(nn.Module):
    """Two normed causal convolutions beside a shortcut.

    Args:
        channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.conv1 = CausalConv3d(channels, out_channels)
        self.norm2 = ChannelNorm(out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels)
        self.conv_shortcut = None if channels == out_channels else CausalConv3d(channels, out_channels, (1, 1, 1))

    def forward(self, hidden: Tensor, past: Past | None) -> Tensor:
        """Maps (B, channels, T, h, w) to (B, out_channels, T, h, w)."""
        inner = self.conv1(F.silu(self.norm1(hidden)), past)
        inner = self.conv2(F.silu(self.norm2(inner)), past)
        return inner.add_(hidden if self.conv_shortcut is None else self.conv_shortcut(hidden))


class FrameAttention(nn.Module):
    """Self-attention with a single head among the positions of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, axes=2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, C, T, h, w) to the same shape."""
        frames = _frames(hidden)
        queries = self.to_qkv(self.norm(frames)).flatten(2).transpose(1, 2)[:, :, None].chunk(3, dim=-1)
        attended = attend(*queries)[:, :, 0].transpose(1, 2).reshape(frames.shape)
        return hidden + _video(self.proj(attended), len(hidden))


class Downsample(nn.Module):
    """Halves height and width, and the number of frames after the first if `time`."""

    def __init__(self, channels: int, time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))
        self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1)) if time else None

    def forward(self, hidden: Tensor, past: Past | None) -> Tensor:
        """Maps (B, C, T, h, w) to (B, C, T', h/2, w/2).

        T' is T without `time`; otherwise (T + 1) / 2 for the first part of a video and T / 2 for each later part.
        """
        hidden = _video(self.resample(_frames(hidden)), len(hidden))
        if self.time_conv is None:
            return hidden
        before = None if past is None else past.before(self)
        if past is not None:
            past.keep(self, hidden[:, :, -1:])
        if before is not None:
            return self.time_conv(torch.cat([before, hidden], dim=2))
        first = hidden[:, :, :1]
        return first if hidden.shape[2] == 1 else torch.cat([first, self.time_conv(hidden)], dim=2)


class Upsample(nn.Module):
    """Doubles height and width, and the number of frames after the first if `time`."""

    def __init__(self, channels: int, out_channels: int, time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="nearest-exact"), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.time_conv = CausalConv3d(channels, 2 * channels, (3, 1, 1)) if time else None

    def forward(self, hidden: Tensor, past: Past | None) -> Tensor:
        """Maps (B, channels, T, h, w) to (B, out_channels, T', 2 h, 2 w).

        T' is T without `time`; otherwise 2 T - 1 for the first part of a video and 2 T for each later part.
        """
        if self.time_conv is not None:
            hidden = self._doubled(self.time_conv, hidden, past)
        return _video(self.resample(_frames(hidden)), len(hidden))

    def _doubled(self, convolution: CausalConv3d, hidden: Tensor, past: Past | None) -> Tensor:
        """Twice as many frames; the first of a video stays alone, and the convolution does not read it."""
        started = past is not None and past.before(self) is not None
        if past is not None and not started:
            past.keep(self, hidden[:, :, :0])
        first, rest = (hidden[:, :, :0], hidden) if started else (hidden[:, :, :1], hidden[:, :, 1:])
        if not rest.shape[2]:
            return first
        pairs = convolution(rest, past).unflatten(1, (2, -1))
        doubled = pairs.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
        return doubled if started else torch.cat([first, doubled], dim=2)


def _frames(video: Tensor) -> Tensor:
    """(B, C, T, h, w) to (B T, C, h, w)."""
    return video.transpose(1, 2).flatten(0, 1)


def _video(frames: Tensor, samples: int) -> Tensor:
    """(B T, C, h, w) to (B, C, T, h, w)."""
    return frames.unflatten(0, (samples, -1)).transpose(1, 2)
