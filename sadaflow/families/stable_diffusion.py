"""Stable Diffusion 1.x and 2.x (Rombach et al. 2022): one CLIP text encoder, a U-Net, a KL autoencoder."""

from typing import ClassVar, Self

import torch
from torch import Tensor

from sadaflow.models import Autoencoder, AutoencoderConfig, UNet, UNetConfig

from ..checkpoint import Checkpoint
from ..text import ClipText
from .base import Prompted, Request, decode_images


class StableDiffusion:
    """The components of a StableDiffusionPipeline checkpoint."""

    components: ClassVar[dict[str, str]] = {
        "unet": "UNet2DConditionModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
    }

    def __init__(self, backbone: UNet, vae: Autoencoder, text: ClipText, dtype: torch.dtype) -> None:
        width, expected = text.encoder.config.hidden_size, backbone.config.cross_attention_dim[0]
        if width != expected:
            raise ValueError(f"the text encoder is {width} wide, the U-Net's cross_attention_dim is {expected}")
        self.backbone = backbone
        self.vae = vae
        self.text = text
        self.dtype = dtype

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> Self:
        unet = UNetConfig.from_dict(checkpoint.json("unet", "config.json"))
        vae = AutoencoderConfig.from_dict(checkpoint.json("vae", "config.json"))
        return cls(
            checkpoint.load("unet", lambda: UNet(unet)),
            checkpoint.load("vae", lambda: Autoencoder(vae), Autoencoder.rename),
            ClipText.load(checkpoint),
            checkpoint.dtype,
        )

    @property
    def latent_channels(self) -> int:
        return self.backbone.config.in_channels

    @property
    def default_size(self) -> tuple[int, int]:
        size, factor = self.backbone.config.sample_size or 64, self.vae.config.downscale
        height, width = (size, size) if isinstance(size, int) else size
        return height * factor, width * factor

    def condition(self, request: Request) -> Prompted:
        negative = request.negative_prompt or ""
        wanted = [*request.prompts, negative] if request.guided else request.prompts
        unique = list(dict.fromkeys(wanted))
        states = dict(zip(unique, self.text.encode(unique), strict=True))
        context = torch.stack([states[prompt] for prompt in request.prompts])
        other = {"context": states[negative].expand_as(context)} if request.guided else None
        return Prompted({"context": context}, other)

    def decode(self, latents: Tensor) -> Tensor:
        return decode_images(self.vae, latents, self.dtype)
