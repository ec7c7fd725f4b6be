"""A U-Net combined with the ControlNets that steer it."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ..embeddings import single_time
from ..seam import Seam, call_through
from ..unet.config import UNetConfig
from ..unet.unet import UNet
from .controlnet import ControlNet
from .parts import joined_times, of_part

STEERED = "steered"
"""Argument with the factors of each row's residuals: 0 for rows that the ControlNets do not steer."""


class ControlledUNet(nn.Module):
    """A U-Net with ControlNets, called like the U-Net alone.

    Args:
        unet: the U-Net.
        nets: the ControlNets.

    Raises:
        ValueError: if a ControlNet was made for another U-Net; the message names the field. Also if one of several
            averages its residuals over the image: published pipelines then change how the others are scaled.
    """

    sites: ClassVar[frozenset[str]] = UNet.sites

    def __init__(self, unet: UNet, nets: Sequence[ControlNet]) -> None:
        super().__init__()
        for index, net in enumerate(nets):
            _check_fit(unet.config, net.config, index)
            if net.global_pool and len(nets) > 1:
                raise ValueError(
                    f"ControlNet {index} of {len(nets)} has global_pool_conditions=true, which is not supported beside "
                    "other ControlNets: use it alone"
                )
        self.unet = unet
        self.nets = nn.ModuleList(nets)

    @property
    def conditional_only(self) -> bool:
        """Whether the ControlNets steer the conditional branch of guidance only (`ControlNetConfig.global_pool`)."""
        return any(cast(ControlNet, net).global_pool for net in self.nets)

    @property
    def config(self) -> UNetConfig:
        """Architecture of the U-Net."""
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
        beside: Tensor | None = None,
        steered: Tensor | None = None,
    ) -> Tensor:
        """Computes the U-Net's prediction with the scaled residuals of all ControlNets added.

        Args:
            x: as in `UNet.forward`.
            timestep: as in `UNet.forward`.
            context: as in `UNet.forward`.
            seam: applied to the U-Net only.
            control: (B, nets, 3, H, W), one image per ControlNet.
            control_scales: one factor per ControlNet; a ControlNet with factor 0 is not run.
            pooled: as in `UNet.forward`.
            time_ids: as in `UNet.forward`.
            guidance: as in `UNet.forward`.
            beside: as in `UNet.forward`; the ControlNets do not read it.
            steered: (B,), factors of the residuals of each row; None for 1.

        Returns:
            Prediction (B, out_channels, h, w).
        """
        given = self.prepare(
            context, control=control, pooled=pooled, time_ids=time_ids, guidance=guidance, beside=beside,
            steered=steered,
        )  # fmt: skip
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
        beside: Tensor | None = None,
        steered: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt and its images share; arguments as in `forward`.

        See `UNet.prepare` and `ControlNet.read`. `guidance` and `beside` are used by the U-Net only.
        """
        given = self.unet.prepare(context, pooled=pooled, time_ids=time_ids, guidance=guidance, beside=beside)
        for index, (net, image) in enumerate(zip(self.nets, control.unbind(1), strict=True)):
            own = cast(ControlNet, net).read(image, context, pooled=pooled, time_ids=time_ids)
            given.update({f"{index}.{name}": tensor for name, tensor in own.items()})
        return given if steered is None else {**given, STEERED: steered.to(control.dtype).view(-1, 1, 1, 1)}

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes `prepare_times` of the U-Net and of each ControlNet, concatenated along the last axis."""
        return joined_times([self.unet, *self.nets], timesteps, given)

    def evaluate(
        self,
        x: Tensor,
        time: Tensor,
        given: Mapping[str, Tensor],
        seam: Seam = call_through,
        *,
        control_scales: Sequence[float],
    ) -> Tensor:
        """Computes the prediction as `UNet.evaluate` does, with the residuals of the ControlNets."""
        nets = [cast(ControlNet, net) for net in self.nets]
        times = time.split([sum(part.shift_widths.values()) for part in (self.unet, *nets)], dim=-1)
        total: list[Tensor] | None = None
        for index, (net, scale) in enumerate(zip(nets, control_scales, strict=True)):
            if scale == 0:
                continue
            residuals = net.evaluate(x, times[1 + index], of_part(given, index))
            scaled = [residual * scale for residual in residuals]
            if STEERED in given:
                scaled = [residual * given[STEERED] for residual in scaled]
            total = scaled if total is None else [torch.add(*pair) for pair in zip(total, scaled, strict=True)]
        return self.unet.evaluate(x, times[0], given, seam, residuals=total)


def _check_fit(unet: UNetConfig, net: UNetConfig, index: int) -> None:
    """Raises ValueError if a ControlNet does not match the U-Net."""
    fields = ["in_channels", "block_out_channels", "layers_per_block"]
    if any(net.cross_attention) or net.mid_attention:
        fields.append("cross_attention_dim")
    if net.added_width is not None:
        fields += ["added_width", "time_id_width"]
    for field in fields:
        found, expected = getattr(net, field), getattr(unet, field)
        if field == "in_channels":  # what the U-Net reads beside x is not for the ControlNets
            expected = min(expected, unet.out_channels)
        if found != expected:
            raise ValueError(
                f"ControlNet {index} does not fit the U-Net: its {field} is {found}, the U-Net's {expected}"
            )
