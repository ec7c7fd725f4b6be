"""Stable Diffusion 1.x and 2.x (Rombach et al. 2022): one CLIP text encoder, a U-Net, a KL autoencoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sadaflow.models import Autoencoder, UNet, UNetConfig

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from .base import build_autoencoder
from .clip_unet import ClipUNet
from .exported import ABSENT, Exported
from .prompt_encoder import Batch, ClipText
from .request import Request
from .text_encoding import Encoding
from .text_family import Text, TextShape
from .unet import DEPTH, LatentUNet, read_configs


class StableDiffusion(ClipUNet):
    """The components of a StableDiffusionPipeline checkpoint.

    Args:
        backbone: The network.
        vae: The autoencoder.
        text: Tokenizer and text encoder.
        dtype: Dtype in which the networks compute.

    Raises:
        ValueError: If the components do not fit each other.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {**LatentUNet.components, "text_encoder": "CLIPTextModel"}

    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"
    """The class in Diffusers."""

    def __init__(self, backbone: UNet, vae: Autoencoder, text: ClipText, dtype: torch.dtype) -> None:
        _check_width(text.encoder.config.hidden_size, backbone.config)
        super().__init__(backbone, vae, dtype)
        self.text = text

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        unet, vae = read_configs(checkpoint)
        unet = replace(unet, sample_size=_trained_size(unet, checkpoint.json("unet", "config.json")))
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

        Old configs lack `steps_offset` and `clip_sample`. The published pipeline sets both when it loads, whatever the
        file says: timesteps start at 1, and x0 is not clipped.
        """
        return {**config, "steps_offset": 1, "clip_sample": False}

    @property
    def clips(self) -> Mapping[str, ClipText]:
        return {"text_encoder": self.text}

    def exported(self) -> Exported | None:
        """What an exported folder says beside the networks; None if the network reads what no pipeline supplies."""
        special = self.edited_by("StableDiffusion")
        if special is None and (self.needs is not None or self.reads == DEPTH):
            return None
        absent = {"safety_checker": ABSENT, "feature_extractor": ABSENT, "requires_safety_checker": False}
        return Exported(special or self.pipeline_class, {"tokenizer": self.text.tokenizer}, absent)

    @property
    def text_shape(self) -> TextShape:
        return TextShape(self.text.encoder.config.hidden_size)

    def run(self, text: ClipText, prompts: Sequence[str] | Batch) -> tuple[Tensor, Tensor | None]:
        return text.encode(prompts), None

    def encode_texts(self, texts: Sequence[Text], request: Request) -> Encoding:
        return self.read(self.text, [(text or "", windows) for text, windows in texts], request)


class LatentConsistency(StableDiffusion):
    """The components of a LatentConsistencyModelPipeline checkpoint (Luo et al. 2023, arXiv 2310.04378).

    It is sampled in few steps, and its U-Net embeds the guidance strength.
    """

    default_guidance: ClassVar[float] = 8.5
    pipeline_class: ClassVar[str] = "LatentConsistencyModelPipeline"

    @classmethod
    def scheduler_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler config as LatentConsistencyModelPipeline uses it: as it is."""
        return dict(config)


def _trained_size(unet: UNetConfig, raw: Mapping[str, Any]) -> int | tuple[int, ...] | None:
    """Latent positions along each side that a U-Net was trained at.

    Fine-tunes saved by Diffusers before 0.9 say 32 although they were trained at 64; StableDiffusionPipeline takes 64.
    """
    version = str(raw.get("_diffusers_version", "")).split(".")
    old = [int(part) for part in version[:2] if part.isdigit()] < [0, 9] and version != [""]
    return 64 if old and isinstance(unet.sample_size, int) and unet.sample_size < 64 else unet.sample_size


def _check_width(width: int, unet: UNetConfig) -> None:
    """Raise ValueError if the hidden states of the text encoder do not have the width that the U-Net reads."""
    if width != unet.cross_attention_dim[0]:
        raise ValueError(
            f"the text encoder is {width} wide, the U-Net's cross_attention_dim is {unet.cross_attention_dim[0]} "
            "(text_encoder/config.json, unet/config.json)"
        )
