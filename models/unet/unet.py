"""The latent-diffusion U-Net (SD 1.x, 2.x and XL) as a nest of shells, under the Hub's UNet2DConditionModel names."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..conv import Conv2d
from ..embeddings import single_time
from ..resnet import Upsample
from ..seam import Seam, Site, call_through
from .config import UNetConfig
from .encoder import UNetEncoder
from .levels import Inputs, Level


class UNet(UNetEncoder):
    """Conditional U-Net: predicts (per its checkpoint's prediction type) from x (B, C, h, w), timestep and context.

    An evaluation has three parts, of which `forward` makes one: `prepare` depends on the prompt alone,
    `prepare_times` on the prompt and the time, `evaluate` on x too.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"shell", "deep", "block", "attention"})
    """Kinds of its sites."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths, skips = config.block_out_channels, self.skip_widths
        ups: list[nn.Module] = []
        width = widths[-1]
        for level in reversed(range(config.levels)):
            inputs = []
            for _ in range(config.layers_per_block[level] + 1):
                inputs.append(width + skips.pop())
                width = widths[level]
            ups.append(Level(config, level, inputs, ("upsamplers", Upsample(width)) if level else None))
        self.up_blocks = nn.ModuleList(ups)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[0], eps=config.norm_eps)
        self.conv_out = Conv2d(widths[0], config.out_channels, 3, padding=1)
        self._measure()

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        context: Tensor | None = None,
        seam: Seam = call_through,
        *,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
        class_vector: Tensor | None = None,
        guidance: Tensor | None = None,
        residuals: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Prediction (B, out_channels, h, w).

        x (B, in_channels, h, w); timestep in the network's units, a number or (B,); context (B, L, width); without
        one, cross-attention reads the map itself. Networks with text_time conditioning need pooled text (B, width)
        and time_ids (B, ids), those with a simple_projection need a class_vector (B, width), those distilled on
        guidance (time_cond_proj_dim) need its strengths (B,); ValueError otherwise.
        `residuals`, as a `ControlNet` gives them, are added to the skip connections, outermost first, and the last
        one to what the middle answers.
        """
        given = self.prepare(
            context, pooled=pooled, time_ids=time_ids, class_vector=class_vector, guidance=guidance
        )
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam, residuals=residuals)

    def evaluate(
        self,
        x: Tensor,
        time: Tensor,
        given: Mapping[str, Tensor],
        seam: Seam = call_through,
        *,
        residuals: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Prediction (B, out_channels, h, w), with the rows of x of what `prepare` gave, and of one step of what
        `prepare_times` did, (1 or B, width)."""
        if residuals is not None and len(residuals) != len(self.shells) + 1:
            raise ValueError(f"{len(residuals)} residuals, expected {len(self.shells)} and one for the middle")
        hidden = self._shell(self.conv_in(x), self.inputs(time, given, seam, residuals), 0)
        return self.conv_out(F.silu(self.conv_norm_out(hidden)))

    def _shell(self, hidden: Tensor, inputs: Inputs, shell: int) -> Tensor:
        """Everything between the skip connection that starts here and the layer that consumes it.

        Layer `layer` of `level` opens the next shell; after a level's last layer, its downsampler does.
        """
        level, layer = self.shells[shell]
        return inputs.seam(_site("shell", hidden, level, layer), lambda skip: self._inside(skip, inputs, shell), hidden)

    def _inside(self, skip: Tensor, inputs: Inputs, shell: int) -> Tensor:
        level, layer = self.shells[shell]
        up_index = self.config.levels - 1 - level
        inner = inputs.seam(_site("deep", skip, level, layer), lambda skip: self._deep(skip, inputs, shell), skip)
        if inputs.residuals is not None:
            skip = skip + inputs.residuals[shell]
        up, index = cast(Level, self.up_blocks[up_index]), self.config.layers_per_block[level] - layer
        return up.layer(index, torch.cat((inner, skip), dim=1), inputs, f"up_blocks.{up_index}", level)

    def _deep(self, skip: Tensor, inputs: Inputs, shell: int) -> Tensor:
        """All of a shell but the layer that consumes its skip connection."""
        level, layer = self.shells[shell]
        inner = self.advance(skip, inputs, shell)
        if shell + 1 < len(self.shells):
            inner = self._shell(inner, inputs, shell + 1)
            if layer == self.config.layers_per_block[level]:
                inner = cast(Level, self.up_blocks[-level - 2]).upsamplers[0](inner, skip.shape[-2:])
        elif inputs.residuals is not None:
            inner = inner + inputs.residuals[-1]
        return inner


def _site(kind: str, hidden: Tensor, level: int, layer: int) -> Site:
    return Site(kind, f"{kind}.{level}.{layer}", level, (hidden.shape[-2], hidden.shape[-1]))
