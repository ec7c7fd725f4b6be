"""The latent-diffusion U-Net (SD 1.x, 2.x and XL), with the parameter names of the Hub's UNet2DConditionModel.

It is evaluated as nested shells: a shell is a skip connection, the layer that consumes it, and everything between.
"""

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
    """Conditional U-Net; what it predicts depends on its checkpoint.

    `forward` runs three parts: `prepare` depends only on the prompt, `prepare_times` on the prompt and the time,
    `evaluate` also on x.

    Args:
        config: the architecture.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"shell", "deep", "block", "attention"})
    """Kinds of sites in this network; one with attention over maps has only the first two."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        if config.spatial_attention:
            self.__dict__["sites"] = frozenset({"shell", "deep"})
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
        class_labels: Tensor | None = None,
        guidance: Tensor | None = None,
        beside: Tensor | None = None,
        residuals: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Computes the prediction.

        Args:
            x: (B, in_channels, h, w).
            timestep: in the network's units, a number or (B,).
            context: (B, L, width), text states; without it, cross-attention reads the feature map itself.
            seam: called at each site.
            pooled: (B, width), pooled text; required with text_time conditioning.
            time_ids: (B, ids); required with text_time conditioning.
            class_vector: (B, width); required with simple_projection.
            class_labels: (B,), class labels; required by a network with `classes`.
            guidance: (B,), guidance strengths; required by networks distilled on them (time_cond_proj_dim).
            beside: (B, channels, h, w), what is read beside x: a mask and the latents of the masked picture
                (inpainting), or the latents of a picture to edit (InstructPix2Pix); x has the other channels.
            residuals: outputs of a `ControlNet`, added to the skip connections, outermost first, and the last to the
                output of the middle.

        Returns:
            Prediction (B, out_channels, h, w).

        Raises:
            ValueError: if a condition is missing, or given to a network without it.
        """
        given = self.prepare(
            context,
            pooled=pooled,
            time_ids=time_ids,
            class_vector=class_vector,
            class_labels=class_labels,
            guidance=guidance,
            beside=beside,
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
        """Computes the prediction at x.

        Args:
            x: (B, in_channels, h, w).
            time: (1 or B, width), one step of `prepare_times`.
            given: output of `prepare`, with the rows of x.
            seam: called at each site.
            residuals: as in `forward`.

        Returns:
            Prediction (B, out_channels, h, w).

        Raises:
            ValueError: if the number of residuals is wrong.
        """
        if residuals is not None and len(residuals) != len(self.shells) + 1:
            raise ValueError(f"got {len(residuals)} residuals, expected {len(self.shells)} and one for the middle")
        if "beside" in given:
            x = torch.cat((x, given["beside"]), dim=1)
        if x.shape[1] != self.config.in_channels:
            raise ValueError(
                f"the network reads {self.config.in_channels} channels, got {x.shape[1]}: beside= has the rest"
            )
        hidden = self._shell(self.conv_in(x), self.inputs(time, given, seam, residuals), 0)
        return self.conv_out(F.silu(self.conv_norm_out(hidden)))

    def _shell(self, hidden: Tensor, inputs: Inputs, shell: int) -> Tensor:
        """Computes everything from the skip connection that starts here to the layer that consumes it.

        Layer `layer` of `level` opens the next shell; after a level's last layer, its downsampler does.
        """
        level, layer = self.shells[shell]
        return inputs.seam(_site("shell", hidden, level, layer), lambda skip: self._inside(skip, inputs, shell), hidden)

    def _inside(self, skip: Tensor, inputs: Inputs, shell: int) -> Tensor:
        """Runs the deep part of a shell and the layer that consumes its skip connection."""
        level, layer = self.shells[shell]
        up_index = self.config.levels - 1 - level
        inner = inputs.seam(_site("deep", skip, level, layer), lambda skip: self._deep(skip, inputs, shell), skip)
        if inputs.residuals is not None:
            skip = skip + inputs.residuals[shell]
        up, index = cast(Level, self.up_blocks[up_index]), self.config.layers_per_block[level] - layer
        return up.layer(index, torch.cat((inner, skip), dim=1), inputs, f"up_blocks.{up_index}", level)

    def _deep(self, skip: Tensor, inputs: Inputs, shell: int) -> Tensor:
        """Computes all of a shell except the layer that consumes its skip connection."""
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
    """Site of a U-Net's shell or deep part."""
    return Site(kind, f"{kind}.{level}.{layer}", level, (hidden.shape[-2], hidden.shape[-1]))
