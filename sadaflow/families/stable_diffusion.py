"""Stable Diffusion 1.x and 2.x (Rombach et al. 2022): one CLIP text encoder, a U-Net, a KL autoencoder."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import nn

from sadaflow.models import Autoencoder, UNet, UNetConfig

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from .base import Prompted, build_autoencoder
from .prompt_encoder import ClipText
from .request import Request
from .unet import LatentUNet, read_configs


class StableDiffusion(LatentUNet):
    """The components of a StableDiffusionPipeline checkpoint."""

    components: ClassVar[dict[str, str]] = {**LatentUNet.components, "text_encoder": "CLIPTextModel"}

    def __init__(self, backbone: UNet, vae: Autoencoder, text: ClipText, dtype: torch.dtype) -> None:
        _check_width(text.encoder.config.hidden_size, backbone.config)
        super().__init__(backbone, vae, dtype)
        self.text = text

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        unet, vae = read_configs(checkpoint)
        text = ClipText.prepare(checkpoint)
        with naming(checkpoint.root):
            _check_width(text.config.hidden_size, unet)
        return lambda: cls(
            checkpoint.network("unet", lambda: UNet(unet)),
            build_autoencoder(checkpoint, vae),
            ClipText.build(text),
            checkpoint.dtype,
        )

    @classmethod
    def scheduler_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler config as StableDiffusionPipeline uses it.

        Configs older than these two fields leave them out. The published pipeline sets them when it loads, whatever
        the file says: timesteps start at 1, and x0 is not clipped.
        """
        return {**config, "steps_offset": 1, "clip_sample": False}

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        return {**super().adaptable, "text_encoder": self.text.encoder}

    def condition(self, request: Request) -> Prompted:
        negatives = [negative or "" for negative in request.negatives]
        guided = request.guided and not self.distilled
        wanted = [*request.prompts, *negatives] if guided else request.prompts
        unique = list(dict.fromkeys(wanted))
        states = dict(zip(unique, self.text.encode(unique), strict=True))
        context = torch.stack([states[prompt] for prompt in request.prompts])
        other = {"context": torch.stack([states[negative] for negative in negatives])} if guided else None
        return Prompted({"context": context, **self.embedded_guidance(request, context.device)}, other)


class LatentConsistency(StableDiffusion):
    """The components of a LatentConsistencyModelPipeline checkpoint (Luo et al. 2023, arXiv 2310.04378): few steps, and
    a U-Net that embeds the strength of guidance."""

    default_guidance: ClassVar[float] = 8.5


def _check_width(width: int, unet: UNetConfig) -> None:
    """Raises ValueError if the states of the text encoder are not as wide as the U-Net reads them."""
    if width != unet.cross_attention_dim[0]:
        raise ValueError(
            f"the text encoder is {width} wide, the U-Net's cross_attention_dim is {unet.cross_attention_dim[0]} "
            "(text_encoder/config.json, unet/config.json)"
        )
