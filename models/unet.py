"""The latent-diffusion U-Net (SD 1.x and 2.x) as a nest of shells, under the Hub's UNet2DConditionModel names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import SpatialTransformer
from .config import per_level, refuse_unsupported
from .embeddings import TimestepEmbedding, sinusoids
from .resnet import Downsample, ResnetBlock, Upsample
from .seam import Seam, Site, call_through

_CROSS, _PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")

_ONLY: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "addition_embed_type": (None,),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "downsample_padding": (1,),
    "dropout": (0.0,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_scale_factor": (1, 1.0),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "num_class_embeds": (None,),
    "only_cross_attention": (False,),
    "resnet_out_scale_factor": (1.0, 1),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "reverse_transformer_layers_per_block": (None,),
    "time_cond_proj_dim": (None,),
    "time_embedding_act_fn": (None,),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (None,),
}
# upcast_attention: scaled_dot_product_attention accumulates in float32 whatever the inputs' dtype.
_WITHOUT_EFFECT = (
    "upcast_attention",
    "addition_embed_type_num_heads",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)
_READ_ELSEWHERE = ("down_block_types", "up_block_types", "attention_head_dim", "num_attention_heads")


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a conditional U-Net, one entry per level (outermost first) in each tuple.

    `heads` is what config.json calls `num_attention_heads` or, by an old mistake that the Hub keeps,
    `attention_head_dim`.
    """

    sample_size: int | tuple[int, ...] | None
    in_channels: int
    out_channels: int
    block_out_channels: tuple[int, ...]
    cross_attention: tuple[bool, ...]
    layers_per_block: tuple[int, ...]
    transformer_layers_per_block: tuple[int, ...]
    heads: tuple[int, ...]
    cross_attention_dim: tuple[int, ...]
    use_linear_projection: bool
    norm_num_groups: int
    norm_eps: float
    flip_sin_to_cos: bool
    freq_shift: float

    @property
    def levels(self) -> int:
        return len(self.block_out_channels)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read a config.json; raises ValueError for a field that cannot be honoured."""
        owner = "UNet2DConditionModel"
        refuse_unsupported(owner, raw, (*cls.__dataclass_fields__, *_READ_ELSEWHERE, *_WITHOUT_EFFECT), _ONLY)
        widths = tuple(raw.get("block_out_channels", (320, 640, 1280, 1280)))
        levels = len(widths)
        cross = _cross_attention(raw, levels)
        heads = raw.get("num_attention_heads") or raw.get("attention_head_dim", 8)
        sample_size = raw.get("sample_size")

        def spread(field: str, default: Any) -> tuple[Any, ...]:
            return per_level(owner, field, raw.get(field, default), levels)

        config = cls(
            sample_size=tuple(sample_size) if isinstance(sample_size, list) else sample_size,
            in_channels=raw.get("in_channels", 4),
            out_channels=raw.get("out_channels", 4),
            block_out_channels=widths,
            cross_attention=cross,
            layers_per_block=spread("layers_per_block", 2),
            transformer_layers_per_block=spread("transformer_layers_per_block", 1),
            heads=per_level(owner, "attention_head_dim", heads, levels),
            cross_attention_dim=spread("cross_attention_dim", 1280),
            use_linear_projection=raw.get("use_linear_projection", False),
            norm_num_groups=raw.get("norm_num_groups", 32),
            norm_eps=raw.get("norm_eps", 1e-5),
            flip_sin_to_cos=raw.get("flip_sin_to_cos", True),
            freq_shift=raw.get("freq_shift", 0),
        )
        for width, count in zip(widths, config.heads, strict=True):
            if width % count or width % config.norm_num_groups:
                raise ValueError(
                    f"{owner} config: block_out_channels has {width}, which {count} heads (attention_head_dim) and "
                    f"{config.norm_num_groups} groups (norm_num_groups) must both divide"
                )
        return config


def _cross_attention(raw: Mapping[str, Any], levels: int) -> tuple[bool, ...]:
    downs = raw.get("down_block_types", (_CROSS[0],) * (levels - 1) + (_PLAIN[0],))
    ups = raw.get("up_block_types", (_PLAIN[1],) + (_CROSS[1],) * (levels - 1))
    for field, kinds, known in (
        ("down_block_types", downs, (_CROSS[0], _PLAIN[0])),
        ("up_block_types", ups, (_CROSS[1], _PLAIN[1])),
    ):
        unknown = [kind for kind in kinds if kind not in known]
        if unknown or len(kinds) != levels:
            raise ValueError(
                f"UNet2DConditionModel config: {field}={list(kinds)!r}; {levels} of {', '.join(known)} are needed"
            )
    cross = tuple(kind == _CROSS[0] for kind in downs)
    if cross != tuple(kind == _CROSS[1] for kind in reversed(ups)):
        raise ValueError(
            f"UNet2DConditionModel config: up_block_types={list(ups)!r} is not the mirror of {list(downs)!r}"
        )
    return cross


class _Level(nn.Module):
    """Parameters of one resolution on the way down or up; the shells decide the order in which they run."""

    attentions: nn.ModuleList
    downsamplers: nn.ModuleList
    upsamplers: nn.ModuleList

    def __init__(
        self, config: UNetConfig, level: int, inputs: list[int], resample: tuple[str, nn.Module] | None, time_dim: int
    ) -> None:
        super().__init__()
        width, groups = config.block_out_channels[level], config.norm_num_groups
        self.resnets = nn.ModuleList(
            [ResnetBlock(channels, width, groups=groups, eps=config.norm_eps, time_dim=time_dim) for channels in inputs]
        )
        if config.cross_attention[level]:
            self.attentions = nn.ModuleList([_transformer(config, level) for _ in inputs])
        if resample is not None:
            self.add_module(resample[0], nn.ModuleList([resample[1]]))

    def layer(self, index: int, hidden: Tensor, inputs: "_Inputs", name: str, depth: int) -> Tensor:
        """Residual block `index`, and the transformer behind it where the level has one."""
        hidden = self.resnets[index](hidden, inputs.time)
        if hasattr(self, "attentions"):
            hidden = self.attentions[index](hidden, inputs.context, inputs.seam, f"{name}.attentions.{index}", depth)
        return hidden


class _Middle(nn.Module):
    def __init__(self, config: UNetConfig, time_dim: int) -> None:
        super().__init__()
        width = config.block_out_channels[-1]
        self.attentions = nn.ModuleList([_transformer(config, -1)])
        self.resnets = nn.ModuleList(
            [
                ResnetBlock(width, width, groups=config.norm_num_groups, eps=config.norm_eps, time_dim=time_dim)
                for _ in range(2)
            ]
        )

    def forward(self, hidden: Tensor, inputs: "_Inputs", depth: int) -> Tensor:
        hidden = self.resnets[0](hidden, inputs.time)
        hidden = self.attentions[0](hidden, inputs.context, inputs.seam, "mid_block.attentions.0", depth)
        return self.resnets[1](hidden, inputs.time)


def _transformer(config: UNetConfig, level: int) -> SpatialTransformer:
    return SpatialTransformer(
        config.block_out_channels[level],
        config.heads[level],
        config.transformer_layers_per_block[level],
        config.cross_attention_dim[level],
        config.norm_num_groups,
        config.use_linear_projection,
    )


@dataclass(frozen=True)
class _Inputs:
    """What every layer of one evaluation shares."""

    time: Tensor
    context: Tensor
    seam: Seam


class UNet(nn.Module):
    """Conditional U-Net: predicts (per its checkpoint's prediction type) from x (B, C, h, w), timestep and context."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, levels = config.block_out_channels, config.levels
        time_dim = 4 * widths[0]
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], time_dim)
        skips = [widths[0]]
        downs: list[nn.Module] = []
        for level, width in enumerate(widths):
            inputs = [widths[max(level - 1, 0)]] + [width] * (config.layers_per_block[level] - 1)
            last = level == levels - 1
            downs.append(_Level(config, level, inputs, None if last else ("downsamplers", Downsample(width)), time_dim))
            skips += [width] * (len(inputs) + (not last))
        self.down_blocks = nn.ModuleList(downs)
        self.mid_block = _Middle(config, time_dim)
        ups: list[nn.Module] = []
        width = widths[-1]
        for level in reversed(range(levels)):
            inputs = []
            for _ in range(config.layers_per_block[level] + 1):
                inputs.append(width + skips.pop())
                width = widths[level]
            ups.append(_Level(config, level, inputs, ("upsamplers", Upsample(width)) if level else None, time_dim))
        self.up_blocks = nn.ModuleList(ups)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor, timestep: Tensor | float, context: Tensor, seam: Seam = call_through) -> Tensor:
        """Prediction (B, out_channels, h, w).

        x (B, in_channels, h, w); timestep in the network's units, a number or (B,); context (B, L, width).
        """
        times = torch.as_tensor(timestep, dtype=torch.float32, device=x.device).expand(x.shape[0])
        features = sinusoids(
            times,
            self.config.block_out_channels[0],
            cos_first=self.config.flip_sin_to_cos,
            shift=self.config.freq_shift,
        )
        inputs = _Inputs(self.time_embedding(features.to(x.dtype)), context, seam)
        hidden = self._shell(self.conv_in(x), inputs, 0, 0)
        return self.conv_out(F.silu(self.conv_norm_out(hidden)))

    def _shell(self, hidden: Tensor, inputs: _Inputs, level: int, layer: int) -> Tensor:
        """Everything between the skip connection that starts here and the layer that consumes it.

        Layer `layer` of `level` opens the next shell; after a level's last layer, its downsampler does.
        """
        name = f"shell.{level}.{layer}"
        site = Site("shell", name, level, (hidden.shape[-2], hidden.shape[-1]))
        return inputs.seam(site, lambda skip: self._inside(skip, inputs, level, layer), hidden)

    def _inside(self, skip: Tensor, inputs: _Inputs, level: int, layer: int) -> Tensor:
        layers = self.config.layers_per_block[level]
        up_index = self.config.levels - 1 - level
        down, up = cast(_Level, self.down_blocks[level]), cast(_Level, self.up_blocks[up_index])
        if layer < layers:
            inner = self._shell(
                down.layer(layer, skip, inputs, f"down_blocks.{level}", level), inputs, level, layer + 1
            )
        elif level < self.config.levels - 1:
            inner = self._shell(down.downsamplers[0](skip), inputs, level + 1, 0)
            inner = cast(_Level, self.up_blocks[up_index - 1]).upsamplers[0](inner, skip.shape[-2:])
        else:
            inner = self.mid_block(skip, inputs, level)
        joined = torch.cat((inner, skip), dim=1)
        return up.layer(layers - layer, joined, inputs, f"up_blocks.{up_index}", level)
