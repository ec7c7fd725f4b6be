"""Levels and middle of a latent-diffusion U-Net, and the inputs they share in one evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..attention import SpatialAttention, SpatialTransformer
from ..resnet import ResnetBlock
from ..seam import Seam, call_through
from .config import UNetConfig


@dataclass(frozen=True)
class Inputs:
    """Inputs that all layers of one evaluation share.

    Attributes:
        shifts: residual block name -> shift (B, channels).
        texts: transformer block name -> keys and values of the text (B, M, 2 width).
        seam: called at each site.
        residuals: see `UNet.forward`.
    """

    shifts: Mapping[str, Tensor]
    texts: Mapping[str, Tensor]
    seam: Seam = call_through
    residuals: Sequence[Tensor] | None = None


class Level(nn.Module):
    """Parameters of one resolution on the way down or up; `UNet` determines the order in which they run.

    Args:
        config: the architecture.
        level: index of the resolution, 0 outermost.
        inputs: input channels of each residual block.
        resample: name and module of the resampling layer, or None.
    """

    attentions: nn.ModuleList
    downsamplers: nn.ModuleList
    upsamplers: nn.ModuleList

    def __init__(
        self, config: UNetConfig, level: int, inputs: list[int], resample: tuple[str, nn.Module] | None
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            [_resnet(config, channels, config.block_out_channels[level]) for channels in inputs]
        )
        if config.cross_attention[level]:
            self.attentions = nn.ModuleList([_attention(config, level) for _ in inputs])
        if resample is not None:
            self.add_module(resample[0], nn.ModuleList([resample[1]]))

    def layer(self, index: int, hidden: Tensor, inputs: Inputs, name: str, depth: int) -> Tensor:
        """Runs residual block `index` and its attention, if the level has one."""
        hidden = self.resnets[index](hidden, inputs.shifts[f"{name}.resnets.{index}"])
        if hasattr(self, "attentions"):
            hidden = _attended(self.attentions[index], hidden, inputs, f"{name}.attentions.{index}", depth)
        return hidden


class Middle(nn.Module):
    """Residual block, attention and residual block; a middle of transformers that lacks its own has only the first.

    Args:
        config: the architecture.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.block_out_channels[-1]
        self.attentions = nn.ModuleList([_attention(config, -1)] if config.mid_attention else [])
        count = 2 if config.mid_attention or config.spatial_attention else 1
        self.resnets = nn.ModuleList([_resnet(config, width, width) for _ in range(count)])

    def forward(self, hidden: Tensor, inputs: Inputs, depth: int) -> Tensor:
        """Maps (B, C, h, w) to (B, C, h, w)."""
        hidden = self.resnets[0](hidden, inputs.shifts["mid_block.resnets.0"])
        for attention in self.attentions:
            hidden = _attended(attention, hidden, inputs, "mid_block.attentions.0", depth)
        for resnet in self.resnets[1:]:
            hidden = resnet(hidden, inputs.shifts["mid_block.resnets.1"])
        return hidden


def _resnet(config: UNetConfig, channels: int, width: int) -> ResnetBlock:
    """Residual block with the config's norms and time width."""
    return ResnetBlock(channels, width, groups=config.norm_num_groups, eps=config.norm_eps, time_dim=config.time_width)


def _attended(attention: nn.Module, hidden: Tensor, inputs: Inputs, name: str, depth: int) -> Tensor:
    """Runs an attention layer."""
    if isinstance(attention, SpatialAttention):
        return attention(hidden)
    return attention(hidden, inputs.texts, inputs.seam, name, depth)


def _attention(config: UNetConfig, level: int) -> nn.Module:
    """Attention layer of a level."""
    if config.spatial_attention:
        channels, heads = config.block_out_channels[level], config.heads[level]
        return SpatialAttention(channels, heads, config.norm_num_groups, config.norm_eps)
    return SpatialTransformer(
        config.block_out_channels[level],
        config.heads[level],
        config.transformer_layers_per_block[level],
        config.cross_attention_dim[level],
        config.norm_num_groups,
        config.use_linear_projection,
    )
