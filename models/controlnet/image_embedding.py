"""Convolutions that map control pictures to the latents' resolution."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..conv import Conv2d


class ImageEmbedding(nn.Module):
    """Maps control images (B, 3, H, W) to feature maps (B, channels, h, w) at the latent's resolution.

    Args:
        widths: channels of the levels; each after the first has half the resolution.
        channels: channels of the output.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.conv_in = Conv2d(3, widths[0], 3, padding=1)
        pairs = zip(widths, widths[1:], strict=False)
        self.blocks = nn.ModuleList(
            [conv for here, there in pairs for conv in (_conv(here, here, 1), _conv(here, there, 2))]
        )
        self.conv_out = _conv(widths[-1], channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, H, W) to (B, channels, h, w)."""
        hidden = F.silu(self.conv_in(images))
        for block in self.blocks:
            hidden = F.silu(block(hidden))
        return self.conv_out(hidden)


def _conv(channels: int, out_channels: int, stride: int) -> Conv2d:
    """3x3 convolution with padding 1."""
    return Conv2d(channels, out_channels, 3, stride=stride, padding=1)
