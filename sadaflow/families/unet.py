"""What all checkpoints with a latent U-Net and a KL autoencoder have in common."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sadaflow.models import Autoencoder, ControlledUNet, ControlNet, UNet

from .base import decode_images


class LatentUNet:
    """U-Net and autoencoder; kinds of checkpoint add the text encoders."""

    components: ClassVar[dict[str, str]] = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    default_guidance: ClassVar[float] = 7.5
    patch: ClassVar[int] = 1

    def __init__(self, backbone: UNet, vae: Autoencoder, dtype: torch.dtype) -> None:
        self.backbone: UNet | ControlledUNet = backbone
        self.vae = vae
        self.dtype = dtype

    @classmethod
    def scheduler_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler config as the kind's published pipeline uses it: as it is."""
        return dict(config)

    def control(self, nets: Sequence[ControlNet]) -> None:
        """Put ControlNets beside the U-Net; ValueError for one that does not fit it."""
        assert isinstance(self.backbone, UNet)
        for index, net in enumerate(nets):
            if net.downscale != self.vae.config.downscale:
                raise ValueError(
                    f"ControlNet {index} takes {net.downscale} pixels per latent, the autoencoder has "
                    f"{self.vae.config.downscale}"
                )
        self.backbone = ControlledUNet(self.backbone, nets).requires_grad_(False).eval()

    @property
    def options(self) -> frozenset[str]:
        return frozenset()

    @property
    def latent_channels(self) -> int:
        return self.backbone.config.in_channels

    @property
    def default_size(self) -> tuple[int, int]:
        size, factor = self.backbone.config.sample_size or 64, self.vae.config.downscale
        height, width = (size[0], size[-1]) if isinstance(size, tuple) else (size, size)
        return height * factor, width * factor

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        backbone = self.backbone
        return {"unet": backbone.unet if isinstance(backbone, ControlledUNet) else backbone}

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {**self.adaptable, "unet": self.backbone, "vae": self.vae}

    def decode(self, latents: Tensor) -> Tensor:
        return decode_images(self.vae, latents)
