"""Stable Diffusion 1.x and 2.x (Rombach et al. 2022): one CLIP text encoder, a U-Net, a KL autoencoder."""

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import nn

from sadaflow.models import Autoencoder, UNet, UNetConfig

from ..checkpoint import Checkpoint
from ..text import ClipText
from .base import Prompted, Request, load_autoencoder
from .unet import LatentUNet


class StableDiffusion(LatentUNet):
    """The components of a StableDiffusionPipeline checkpoint."""

    components: ClassVar[dict[str, str]] = {**LatentUNet.components, "text_encoder": "CLIPTextModel"}

    def __init__(self, backbone: UNet, vae: Autoencoder, text: ClipText, dtype: torch.dtype) -> None:
        width, expected = text.encoder.config.hidden_size, backbone.config.cross_attention_dim[0]
        if width != expected:
            raise ValueError(f"the text encoder is {width} wide, the U-Net's cross_attention_dim is {expected}")
        super().__init__(backbone, vae, dtype)
        self.text = text

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> Self:
        unet = UNetConfig.from_dict(checkpoint.json("unet", "config.json"))
        vae = load_autoencoder(checkpoint)
        return cls(
            checkpoint.load("unet", lambda: UNet(unet)),
            vae,
            ClipText.load(checkpoint),
            checkpoint.dtype,
        )

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        return {**super().adaptable, "text_encoder": self.text.encoder}

    def condition(self, request: Request) -> Prompted:
        negatives = [negative or "" for negative in request.negatives]
        wanted = [*request.prompts, *negatives] if request.guided else request.prompts
        unique = list(dict.fromkeys(wanted))
        states = dict(zip(unique, self.text.encode(unique), strict=True))
        context = torch.stack([states[prompt] for prompt in request.prompts])
        other = {"context": torch.stack([states[one] for one in negatives])} if request.guided else None
        return Prompted({"context": context}, other)
