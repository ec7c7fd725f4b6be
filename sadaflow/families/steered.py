"""Families whose transformer may be steered by ControlNets that read the latents of control pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sadaflow.models import SteeredTransformer

from .base import Prompted
from .control_options import CONTROL_MODES
from .encoding import encode_images
from .latent_transformer import LatentTransformer

Modes = Sequence[int | None]
"""The condition of each ControlNet, None for those of a single condition."""


@dataclass(frozen=True)
class ControlNetClass:
    """A class of ControlNets, as config.json names it.

    Attributes:
        config: Reads a config.json; raises ValueError if it cannot be honoured.
        network: Builds the network of a config.
    """

    config: Callable[[Mapping[str, Any]], Any]
    network: Callable[[Any], nn.Module]


class SteeredFamily(LatentTransformer):
    """Base class of these families.

    Attributes:
        controlnets: The classes of their ControlNets by name.
    """

    controlnets: ClassVar[Mapping[str, ControlNetClass]]
    backbone: Any

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {**super().networks, "transformer": self.backbone}

    def control(self, nets: Sequence[nn.Module]) -> None:
        """Add ControlNets to the transformer.

        Raises:
            ValueError: If one of them does not fit it, or if the transformer reads pictures itself.
        """
        reads = getattr(self, "reads", None)
        if reads is not None:
            raise ValueError(f"controlnet= is for checkpoints that read a prompt alone; this one also reads a {reads}")
        for index, net in enumerate(nets):
            own = getattr(net, "downscale", None)
            if own not in (None, self.vae.config.downscale):
                raise ValueError(
                    f"ControlNet {index} takes {own} pixels per latent, the autoencoder has {self.vae.config.downscale}"
                )
        self.backbone = SteeredTransformer(self.backbone, nets).requires_grad_(False).eval()

    @property
    def transformer(self) -> Any:
        """The transformer, without ControlNets."""
        return self.backbone.network if isinstance(self.backbone, SteeredTransformer) else self.backbone

    @property
    def steering(self) -> Sequence[Any]:
        """The ControlNets."""
        return list(self.backbone.nets) if isinstance(self.backbone, SteeredTransformer) else ()

    def control_modes(self, modes: Modes) -> Modes:
        """Check the conditions of the ControlNets.

        Args:
            modes: One for each ControlNet.

        Returns:
            The same.

        Raises:
            ValueError: If a union ControlNet has none, or one that it does not have; or if another has one.
        """
        for index, (net, mode) in enumerate(zip(self.steering, modes, strict=True)):
            if net.modes is None and mode is not None:
                raise ValueError(
                    f"control_mode={mode} for ControlNet {index}, which has a single condition (num_mode is null in "
                    "its config.json): leave it out, or give None for it"
                )
            if net.modes is not None and mode is None:
                known = ", ".join(f"{name} ({number})" for name, number in CONTROL_MODES.items())
                raise ValueError(
                    f"ControlNet {index} is a union of conditions: give that of its picture as control_mode=: {known}"
                )
            if net.modes is not None and mode is not None and mode >= net.modes:
                raise ValueError(
                    f"control_mode={mode} for ControlNet {index}, which has 0 to {net.modes - 1} (num_mode)"
                )
        return modes

    def steered(self, prompted: Prompted, pictures: Tensor, modes: Modes) -> Prompted:
        """The encoded prompts with what the ControlNets read.

        Args:
            prompted: The encoded prompts.
            pictures: Control pictures (B, nets, 3, H, W), RGB in [0, 1].
            modes: Condition of each ControlNet.
        """
        latents = [self.control_latents(net, pictures[:, index]) for index, net in enumerate(self.steering)]
        rows = torch.stack(latents, dim=1).to(pictures)
        numbers = torch.tensor([mode or 0 for mode in modes], device=pictures.device)
        return prompted.both(control=rows, modes=numbers.expand(len(pictures), -1))

    def control_latents(self, net: Any, pictures: Tensor) -> Tensor:
        """What a ControlNet reads, (B, C, h, w), of control pictures (B, 3, H, W) in [0, 1]."""
        return encode_images(self.vae, 2 * pictures - 1)
