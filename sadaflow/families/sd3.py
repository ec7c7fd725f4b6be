"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206): CLIP L and G, T5, a transformer, an autoencoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadaflow.models import Autoencoder, AutoencoderConfig
from sadaflow.models.sd3 import SD3Config, SD3ControlNet, SD3ControlNetConfig, SD3Transformer

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..loading.sampling_defaults import Recommended
from .base import autoencoder_config, build_autoencoder
from .encoding import encode_images
from .exported import ABSENT, Exported
from .hooks import ReadJson
from .prompt_encoder import ClipText, T5Text
from .request import Request
from .steered import ControlNetClass, SteeredFamily
from .text_encoding import Encoding
from .text_family import BLENDED, ENCODED, POOLED, Text, TextFamily, TextShape

_T5_TOKENS = 256
"""Length of the T5 prompt that the published pipeline has by default."""
_CLIP = "CLIPTextModelWithProjection"
_EULER = "FlowMatchEulerDiscreteScheduler"


class StableDiffusion3(SteeredFamily, TextFamily):
    """The components of a StableDiffusion3Pipeline checkpoint; T5 may be missing, and then counts as zeros.

    Raises:
        ValueError: If the components do not fit each other.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "transformer": "SD3Transformer2DModel",
        "vae": "AutoencoderKL",
        "text_encoder": _CLIP,
        "text_encoder_2": _CLIP,
    }
    controlnets: ClassVar[Mapping[str, ControlNetClass]] = {
        "SD3ControlNetModel": ControlNetClass(SD3ControlNetConfig.from_dict, SD3ControlNet)
    }
    options: ClassVar[frozenset[str]] = frozenset({"max_sequence_length"}) | ENCODED | POOLED | BLENDED
    default_guidance: ClassVar[float] = 7.0
    patch: ClassVar[int] = 2

    def __init__(
        self,
        backbone: SD3Transformer,
        vae: Autoencoder,
        clips: tuple[ClipText, ClipText],
        t5: T5Text | None,
        dtype: torch.dtype,
    ) -> None:
        texts = (*(clip.encoder.config for clip in clips), None if t5 is None else t5.encoder.config)
        _check_widths(backbone.config, vae.config, texts)
        self.default_size = (backbone.config.sample_size * vae.config.downscale,) * 2
        self.backbone = backbone
        self.vae = vae
        self.clips = clips
        self.t5 = t5
        self.dtype = dtype

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        transformer = checkpoint.read(SD3Config.from_dict, "transformer", "config.json")
        vae = autoencoder_config(checkpoint)
        first, second = (ClipText.prepare(checkpoint, suffix, _CLIP, pooled=True) for suffix in ("", "_2"))
        t5 = None
        if checkpoint.json("model_index.json").get("text_encoder_3") not in (None, [None, None]):
            checkpoint.expect({"text_encoder_3": "T5EncoderModel"})
            t5 = T5Text.prepare(checkpoint, "_3")
        with naming(checkpoint.root):
            _check_widths(transformer, vae, (first.config, second.config, None if t5 is None else t5.config))
        return lambda: cls(
            checkpoint.network("transformer", lambda: SD3Transformer(transformer)),
            build_autoencoder(checkpoint, vae),
            (ClipText.build(first), ClipText.build(second)),
            None if t5 is None else T5Text.build(t5),
            checkpoint.dtype,
        )

    @classmethod
    def scheduler_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler config as StableDiffusion3Pipeline uses it, which leaves the sigmas to the scheduler."""
        return {**config, **({"sigmas_from_table": True} if config.get("_class_name") == _EULER else {})}

    @classmethod
    def recommended(cls, read: ReadJson) -> Recommended:
        """What the authors recommend: 28 steps, guidance 7 for 3 and 3.5 for 3.5 large; 40 and 4.5 for 3.5 medium.

        3.5 large turbo has the files of large; its authors recommend 4 steps without guidance.
        """
        transformer = read("transformer/config.json")
        if transformer.get("dual_attention_layers"):
            return Recommended(4.5, 40, "euler")
        return Recommended(3.5 if transformer.get("qk_norm") else cls.default_guidance, 28, "euler")

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        encoders = {"text_encoder": self.clips[0].encoder, "text_encoder_2": self.clips[1].encoder}
        third = {} if self.t5 is None else {"text_encoder_3": self.t5.encoder}
        return {"transformer": self.transformer, **encoders, **third}

    @property
    def prompt_encoders(self) -> Mapping[str, ClipText | T5Text]:
        return {"text_encoder": self.clips[0], "text_encoder_2": self.clips[1]}

    def exported(self) -> Exported:
        """What an exported folder says beside the networks."""
        tokenizers = {"tokenizer": self.clips[0].tokenizer, "tokenizer_2": self.clips[1].tokenizer}
        if self.t5 is None:
            absent = dict.fromkeys(("text_encoder_3", "tokenizer_3"), ABSENT)
            return Exported("StableDiffusion3Pipeline", tokenizers, absent)
        return Exported("StableDiffusion3Pipeline", {**tokenizers, "tokenizer_3": self.t5.tokenizer})

    def control_latents(self, net: SD3ControlNet, pictures: Tensor) -> Tensor:
        """What a ControlNet reads: the latents of the picture, scaled as in its training."""
        latents = encode_images(self.vae, 127.5 * pictures + 0.5 if net.config.byte_range else 2 * pictures - 1)
        if not net.config.force_zeros_for_pooled_projection:
            return latents
        return latents + (self.vae.config.shift_factor or 0.0) * self.vae.config.scaling_factor

    @property
    def text_shape(self) -> TextShape:
        pooled = sum(clip.encoder.config.projection_dim for clip in self.clips)
        return TextShape(self.backbone.config.joint_attention_dim, pooled)

    def encode_texts(self, texts: Sequence[Text], request: Request) -> Encoding:
        """States (B, L, joint_attention_dim), of CLIP and then of T5, and pooled CLIP text (B, width)."""
        prompts, width = [text or "" for text, _ in texts], self.backbone.config.joint_attention_dim
        default = _T5_TOKENS if self.t5 is None else self.t5.default_length(_T5_TOKENS)
        length = request.text_tokens(T5Text.longest, default)
        states, pooled = zip(*(clip.penultimate(prompts) for clip in self.clips), strict=True)
        both = torch.cat(states, dim=-1).to(self.dtype)
        both = F.pad(both, (0, width - both.shape[-1]))
        if self.t5 is None:
            third = both.new_zeros(len(prompts), length, width)
        else:
            third = self.t5.encode(prompts, length).to(both)
        return Encoding(torch.cat((both, third), dim=1), torch.cat(pooled, dim=-1))


def _check_widths(transformer: SD3Config, vae: AutoencoderConfig, texts: tuple[Any, Any, Any]) -> None:
    """Raise ValueError if components of these configs do not fit each other."""
    first, second, third = texts
    width = transformer.joint_attention_dim
    pooled = first.projection_dim + second.projection_dim
    for label, found, field, expected in (
        ("text_encoder's and text_encoder_2's projections are together", pooled, "pooled_projection_dim",
         transformer.pooled_projection_dim),
        ("text_encoder_3 is", width if third is None else third.d_model, "joint_attention_dim", width),
        ("vae's latents are", vae.latent_channels, "in_channels", transformer.in_channels),
        ("prediction is", transformer.out_channels, "in_channels", transformer.in_channels),
    ):  # fmt: skip
        if found != expected:
            raise ValueError(
                f"the {label} {found} wide, the transformer's {field} is {expected} (transformer/config.json, and "
                "config.json in text_encoder/, text_encoder_2/, text_encoder_3/ and vae/)"
            )
    if first.hidden_size + second.hidden_size > width:
        raise ValueError(
            f"text_encoder and text_encoder_2 are {first.hidden_size + second.hidden_size} wide together, more than "
            f"joint_attention_dim={width} of the transformer"
        )
