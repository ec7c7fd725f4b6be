"""ControlNet (Zhang et al. 2023, arXiv 2302.05543) under the Hub's ControlNetModel names, and the U-Net it steers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..conv import Conv2d
from ..embeddings import single_time
from ..seam import Seam, call_through
from ..unet.config import UNetConfig
from ..unet.encoder import UNetEncoder
from ..unet.unet import UNet
from .fields import EMBEDDING_WIDTHS, TABLE

_UP_OF = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}


@dataclass(frozen=True)
class ControlNetConfig:
    """Architecture of a ControlNet: the U-Net half that it copies, and the widths of its image embedding."""

    unet: UNetConfig
    embedding_widths: tuple[int, ...]
    bgr: bool

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Reads a config.json; raises ValueError if a field has a wrong value, or asks for what is not supported."""
        own = TABLE.read({field: raw[field] for field in (EMBEDDING_WIDTHS, "down_block_types") if field in raw})
        downs = own.get("down_block_types")
        ups = {} if downs is None else {"up_block_types": [_UP_OF.get(kind, kind) for kind in reversed(downs)]}
        return cls(
            UNetConfig.from_dict({**raw, **ups}, TABLE),
            own.get(EMBEDDING_WIDTHS, (16, 32, 96, 256)),
            raw.get("controlnet_conditioning_channel_order") == "bgr",
        )

    @property
    def downscale(self) -> int:
        """Pixels of the control image per latent position along one side."""
        return 2 ** (len(self.embedding_widths) - 1)


class _ImageEmbedding(nn.Module):
    """Control images (B, 3, H, W) to maps (B, channels, h, w) at the latent's resolution."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.conv_in = Conv2d(3, widths[0], 3, padding=1)
        pairs = zip(widths, widths[1:], strict=False)
        self.blocks = nn.ModuleList(
            [conv for here, there in pairs for conv in (_conv(here, here, 1), _conv(here, there, 2))]
        )
        self.conv_out = _conv(widths[-1], channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.silu(self.conv_in(images))
        for block in self.blocks:
            hidden = F.silu(block(hidden))
        return self.conv_out(hidden)


def _conv(channels: int, out_channels: int, stride: int) -> Conv2d:
    return Conv2d(channels, out_channels, 3, stride=stride, padding=1)


class ControlNet(UNetEncoder):
    """Copy of a U-Net's encoder that reads an image as well, and answers with residuals for the U-Net."""

    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__(config.unet)
        self.bgr, self.downscale = config.bgr, config.downscale
        self.controlnet_cond_embedding = _ImageEmbedding(config.embedding_widths, config.unet.block_out_channels[0])
        self.controlnet_down_blocks = nn.ModuleList([Conv2d(width, width, 1) for width in self.skip_widths])
        width = config.unet.block_out_channels[-1]
        self.controlnet_mid_block = Conv2d(width, width, 1)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        context: Tensor | None,
        image: Tensor,
        *,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> list[Tensor]:
        """Residuals for each skip connection, outermost first, and for the middle; see `UNet.forward`.

        image (B, 3, H, W) is RGB in [0, 1], `downscale` times the size of x; the rest is what the U-Net gets, of
        which a ControlNet without text_time conditioning ignores pooled and time_ids.
        """
        given = self.read(image, context, pooled=pooled, time_ids=time_ids)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given)

    def read(
        self,
        image: Tensor,
        context: Tensor | None = None,
        *,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What every evaluation for a prompt and an image shares: what `prepare` gives, and the image embedded (B,
        channels, h, w). Arguments as in `forward`."""
        if any(side % self.downscale for side in image.shape[-2:]):
            raise ValueError(
                f"control image of {tuple(image.shape[-2:])}: its sides must be multiples of {self.downscale}, the "
                "pixels per latent"
            )
        if self.config.added_width is None:
            pooled = time_ids = None
        image = image.to(self.conv_in.weight.dtype)
        embedded = self.controlnet_cond_embedding(image.flip(1) if self.bgr else image)
        return {**self.prepare(context, pooled=pooled, time_ids=time_ids), "image": embedded}

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> list[Tensor]:
        """Residuals as `forward` gives them, with the rows of x of what `read` gave, and of one step of what
        `prepare_times` did, (1 or B, width)."""
        image, inputs = given["image"], self.inputs(time, given)
        if image.shape[-2:] != x.shape[-2:]:
            height, width = (side * self.downscale for side in image.shape[-2:])
            raise ValueError(
                f"control image of {(height, width)} for latents of {tuple(x.shape[-2:])}: "
                f"{self.downscale} pixels per latent are needed"
            )
        hidden = self.conv_in(x) + image
        residuals = []
        for shell, block in enumerate(self.controlnet_down_blocks):
            residuals.append(block(hidden))
            hidden = self.advance(hidden, inputs, shell)
        return [*residuals, self.controlnet_mid_block(hidden)]


class ControlledUNet(nn.Module):
    """A U-Net and the ControlNets that steer it, called like the U-Net alone.

    Raises ValueError for a ControlNet that was made for another U-Net, naming the field.
    """

    sites: ClassVar[frozenset[str]] = UNet.sites

    def __init__(self, unet: UNet, nets: Sequence[ControlNet]) -> None:
        super().__init__()
        for index, net in enumerate(nets):
            _check_fit(unet.config, net.config, index)
        self.unet = unet
        self.nets = nn.ModuleList(nets)

    @property
    def config(self) -> UNetConfig:
        return self.unet.config

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        context: Tensor | None = None,
        seam: Seam = call_through,
        *,
        control: Tensor,
        control_scales: Sequence[float],
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """The U-Net's prediction with the sum of the scaled residuals.

        control (B, nets, 3, H, W) holds an image for each net, `control_scales` a factor; a net at 0 is not run. The
        seam enters the U-Net alone. The rest is as in `UNet.forward`.
        """
        given = self.prepare(context, control=control, pooled=pooled, time_ids=time_ids, guidance=guidance)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam, control_scales=control_scales)

    def prepare(
        self,
        context: Tensor | None = None,
        *,
        control: Tensor,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What every evaluation for a prompt and its images shares, of the U-Net and of each net; see `UNet.prepare`
        and `ControlNet.read`. The strength of guidance is for the U-Net alone."""
        given = self.unet.prepare(context, pooled=pooled, time_ids=time_ids, guidance=guidance)
        for index, (net, image) in enumerate(zip(self.nets, control.unbind(1), strict=True)):
            own = cast(ControlNet, net).read(image, context, pooled=pooled, time_ids=time_ids)
            given.update({f"{index}.{name}": tensor for name, tensor in own.items()})
        return given

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """As `UNet.prepare_times`, of the U-Net and behind it of each net."""
        parts = [self.unet.prepare_times(timesteps, given)]
        for index, net in enumerate(self.nets):
            parts.append(cast(ControlNet, net).prepare_times(timesteps, _own(given, index)))
        rows = max(part.shape[1] for part in parts)
        return torch.cat([part.expand(-1, rows, -1) for part in parts], dim=-1)

    def evaluate(
        self,
        x: Tensor,
        time: Tensor,
        given: Mapping[str, Tensor],
        seam: Seam = call_through,
        *,
        control_scales: Sequence[float],
    ) -> Tensor:
        """As `UNet.evaluate`, steered as in `forward`."""
        steered = [cast(ControlNet, net) for net in self.nets]
        times = time.split([sum(part.shift_widths.values()) for part in (self.unet, *steered)], dim=-1)
        total: list[Tensor] | None = None
        for index, (net, scale) in enumerate(zip(steered, control_scales, strict=True)):
            if scale == 0:
                continue
            residuals = net.evaluate(x, times[1 + index], _own(given, index))
            scaled = [residual * scale for residual in residuals]
            total = scaled if total is None else [torch.add(*pair) for pair in zip(total, scaled, strict=True)]
        return self.unet.evaluate(x, times[0], given, seam, residuals=total)


def _own(given: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """Of what a steered U-Net was given, that of the ControlNet `index`."""
    start = f"{index}."
    return {name.removeprefix(start): tensor for name, tensor in given.items() if name.startswith(start)}


def _check_fit(unet: UNetConfig, net: UNetConfig, index: int) -> None:
    fields = ["in_channels", "block_out_channels", "layers_per_block"]
    if any(net.cross_attention) or net.mid_attention:
        fields.append("cross_attention_dim")
    if net.added_width is not None:
        fields += ["added_width", "time_id_width"]
    for field in fields:
        have, wanted = getattr(net, field), getattr(unet, field)
        if have != wanted:
            raise ValueError(f"ControlNet {index} does not fit the U-Net: its {field} is {have}, the U-Net's {wanted}")
