"""Base of the families with a latent U-Net and a KL autoencoder."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from sadaflow.models import (
    Autoencoder,
    AutoencoderConfig,
    ControlledUNet,
    ControlNet,
    ControlNetConfig,
    UNet,
    UNetConfig,
)

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from .base import Prompted, autoencoder_config, decode_images
from .prompt_encoder import ClipText, T5Text
from .request import Request
from .steered import ControlNetClass, Modes

MASK, PICTURE, DEPTH, CONTROL, FIRST_FRAME = "mask", "picture", "depth", "control", "first frame"
"""What a backbone reads beside the latents: a mask and the masked picture (inpainting), a picture to edit, a depth map,
the latents of a control picture, or the picture that a video begins with."""

CONDITIONS: Final = (DEPTH, CONTROL)
"""Those that `control=` gives."""

# Number of further channels of U-Nets of published checkpoints, and what they read with them.
_READS: Final = {5: MASK, 4: PICTURE, 1: DEPTH}
_UNSUPPORTED: Final = {3: "it is an upscaler: its U-Net reads the small picture beside the latents"}

_EDITED_BY = {5: "InpaintPipeline", 4: "InstructPix2PixPipeline"}
"""Endings of the classes in Diffusers, by the number of further input channels."""


def check_channels(unet: UNetConfig, vae: AutoencoderConfig) -> None:
    """Raise ValueError if a U-Net reads or predicts something that cannot be sampled with."""
    reason = further_inputs(unet, vae)
    if reason is not None:
        raise ValueError(
            f"in_channels={unet.in_channels} of the U-Net is not supported with latent_channels={vae.latent_channels} "
            f"of the autoencoder: {reason}; text-to-image checkpoints have {vae.latent_channels}"
        )


def further_inputs(unet: UNetConfig, vae: AutoencoderConfig) -> str | None:
    """What a U-Net reads beside the latents and the prompt that cannot be sampled with; None if nothing.

    Raises:
        ValueError: If U-Net and autoencoder do not belong together.
    """
    latent = vae.latent_channels
    further = unet.in_channels - latent
    if further and further not in _READS and further not in _UNSUPPORTED:
        raise ValueError(
            f"in_channels={unet.in_channels} of the U-Net is not supported with latent_channels={latent} of the "
            f"autoencoder: the two do not belong together; text-to-image checkpoints have {latent}"
        )
    if unet.out_channels != latent and further not in _UNSUPPORTED:
        raise ValueError(
            f"out_channels={unet.out_channels} of the U-Net is not supported with latent_channels={latent} of the "
            "autoencoder: the prediction must have the shape of the latents"
        )
    return _UNSUPPORTED.get(further)


def read_configs(checkpoint: Checkpoint, *, statistics: bool = False) -> tuple[UNetConfig, AutoencoderConfig]:
    """Read the configs of the U-Net and the autoencoder.

    Args:
        checkpoint: The checkpoint.
        statistics: See `autoencoder_config`.

    Raises:
        ValueError: If a config is not supported, or if the two do not fit each other.
    """
    unet = checkpoint.read(UNetConfig.from_dict, "unet", "config.json")
    vae = autoencoder_config(checkpoint, statistics=statistics)
    with naming(checkpoint.path("unet", "config.json")):
        check_channels(unet, vae)
    return unet, vae


class LatentUNet:
    """A U-Net and an autoencoder; subclasses add the text encoders."""

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    controlnets: ClassVar[Mapping[str, ControlNetClass]] = {
        "ControlNetModel": ControlNetClass(ControlNetConfig.from_dict, ControlNet)
    }
    default_guidance: ClassVar[float] = 7.5
    patch: ClassVar[int] = 1

    def __init__(self, backbone: UNet, vae: Autoencoder, dtype: torch.dtype) -> None:
        self.needs = further_inputs(backbone.config, vae.config)
        self.reads = _READS.get(backbone.config.in_channels - vae.config.latent_channels)
        self.backbone: UNet | ControlledUNet = backbone
        self.vae = vae
        self.dtype = dtype

    @classmethod
    def scheduler_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler config unchanged; subclasses change it as their published pipelines do."""
        return dict(config)

    def control(self, nets: Sequence[ControlNet]) -> None:
        """Add ControlNets to the U-Net.

        Raises:
            ValueError: If one of them does not fit the U-Net or the autoencoder.
        """
        assert isinstance(self.backbone, UNet)
        for index, net in enumerate(nets):
            if net.downscale != self.vae.config.downscale:
                raise ValueError(
                    f"ControlNet {index} takes {net.downscale} pixels per latent, the autoencoder has "
                    f"{self.vae.config.downscale}"
                )
        self.backbone = ControlledUNet(self.backbone, nets).requires_grad_(False).eval()

    def control_modes(self, modes: Modes) -> Modes:
        """Check the conditions of the ControlNets; raises ValueError if there are any, since these have one alone."""
        if any(mode is not None for mode in modes):
            raise ValueError(f"control_mode={modes}: the ControlNets of a U-Net have a single condition; leave it out")
        return modes

    def steered(self, prompted: Prompted, pictures: Tensor, modes: Modes) -> Prompted:
        """The encoded prompts with what the ControlNets read.

        ControlNets that average their residuals over the image steer the conditional branch only.

        Args:
            prompted: The encoded prompts.
            pictures: Control pictures (B, nets, 3, H, W), RGB in [0, 1].
            modes: Condition of each ControlNet; not used.
        """
        prompted, backbone = prompted.both(control=pictures), self.backbone
        assert isinstance(backbone, ControlledUNet)
        if prompted.negative is None or not backbone.conditional_only:
            return prompted
        ones = torch.ones(len(pictures), device=pictures.device)
        return prompted.both(steered=ones).with_negative(steered=torch.zeros_like(ones))

    def edited_by(self, start: str) -> str | None:
        """The pipeline class in Diffusers of a network that reads a picture beside the latents; None for others.

        Args:
            start: How the name of the class begins.
        """
        further = self.backbone.config.in_channels - self.vae.config.latent_channels
        return f"{start}{_EDITED_BY[further]}" if further in _EDITED_BY else None

    @property
    def distilled(self) -> bool:
        """Whether the U-Net embeds the guidance strength; then there is no negative branch."""
        return self.backbone.config.guidance_width is not None

    def embedded_guidance(self, request: Request, device: torch.device) -> dict[str, Tensor]:
        """The argument "guidance" (B,) of a U-Net that embeds the guidance strength; empty for other U-Nets."""
        if not self.distilled:
            return {}
        if request.negative_prompt:
            warnings.warn("negative_prompt has no effect on this checkpoint: its network embeds guidance", stacklevel=5)
        return {"guidance": torch.tensor(request.embedded_guidance, device=device)}

    @property
    def options(self) -> frozenset[str]:
        return frozenset()

    @property
    def latent_channels(self) -> int:
        return self.vae.config.latent_channels

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
    def prompt_encoders(self) -> Mapping[str, ClipText | T5Text]:
        return {}

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {**self.adaptable, "unet": self.backbone, "vae": self.vae}

    def decode(self, latents: Tensor) -> Tensor:
        return decode_images(self.vae, latents)
