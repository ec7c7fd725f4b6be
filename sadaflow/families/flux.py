"""Flux.1 dev and schnell (Black Forest Labs 2024): T5 and CLIP text encoders, a flow transformer, a KL autoencoder."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor, nn

from sadaflow.models import Autoencoder, AutoencoderConfig, FluxConfig, FluxTransformer
from sadaflow.models.flux import FluxControlNet, FluxControlNetConfig

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from .argument import arguments
from .base import Conditioning, Prompted, autoencoder_config, build_autoencoder, trained_size
from .exported import Exported
from .guidance_options import Guidance, is_guided
from .hooks import REFERENCE
from .options import FluxOptions
from .prompt_encoder import ClipText, T5Text
from .request import Request
from .steered import ControlNetClass, Modes, SteeredFamily
from .text_encoding import Encoding
from .text_family import BLENDED, ENCODED, POOLED, Text, TextFamily, TextShape
from .unet import CONTROL, MASK


class Flux(SteeredFamily, TextFamily):
    """The components of a FluxPipeline checkpoint, or a FluxControlPipeline one (Depth, Canny).

    The network of dev embeds `guidance`, on which it was distilled; schnell ignores it. With `true_guidance` above 1
    both are guided by a negative prompt, at twice the cost.

    Args:
        backbone: The network.
        vae: The autoencoder.
        clip: Tokenizer and encoder of the pooled prompt.
        t5: Tokenizer and encoder of the prompt's tokens.
        dtype: Dtype in which the networks compute.

    Raises:
        ValueError: If the components do not fit each other.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "transformer": "FluxTransformer2DModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "T5EncoderModel",
    }
    controlnets: ClassVar[Mapping[str, ControlNetClass]] = {
        "FluxControlNetModel": ControlNetClass(FluxControlNetConfig.from_dict, FluxControlNet)
    }
    options: ClassVar[frozenset[str]] = frozenset(arguments(FluxOptions)) | ENCODED | POOLED | BLENDED
    default_guidance: ClassVar[float] = 3.5
    patch: ClassVar[int] = 2

    def __init__(
        self, backbone: FluxTransformer, vae: Autoencoder, clip: ClipText, t5: T5Text, dtype: torch.dtype
    ) -> None:
        self._check_widths(backbone.config, vae.config, clip.encoder.config, t5.encoder.config)
        self.needs = None
        self.reads = self.reads_of(backbone.config, vae.config)
        self.default_size = trained_size(vae.config, self.patch)
        self.backbone = backbone
        self.vae = vae
        self.clip = clip
        self.t5 = t5
        self.dtype = dtype

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        transformer = checkpoint.read(FluxConfig.from_dict, "transformer", "config.json")
        vae = autoencoder_config(checkpoint)
        clip, t5 = ClipText.prepare(checkpoint, pooled=True), T5Text.prepare(checkpoint)
        with naming(checkpoint.root):
            cls._check_widths(transformer, vae, clip.config, t5.config)
            trained_size(vae, cls.patch)
        return lambda: cls(
            checkpoint.network("transformer", lambda: FluxTransformer(transformer)),
            build_autoencoder(checkpoint, vae),
            ClipText.build(clip),
            T5Text.build(t5),
            checkpoint.dtype,
        )

    @classmethod
    def reads_of(cls, transformer: FluxConfig, vae: AutoencoderConfig) -> str | None:
        """What a transformer reads beside the latents: a mask (Fill), or latents of a picture (Depth and Canny)."""
        if fills(transformer, vae):
            return MASK
        return CONTROL if transformer.latent_channels == 2 * vae.latent_channels else None

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        return {
            "transformer": self.transformer,
            "text_encoder": self.clip.encoder,
            "text_encoder_2": self.t5.encoder,
        }

    @property
    def prompt_encoders(self) -> Mapping[str, ClipText | T5Text]:
        return {"text_encoder": self.clip, "text_encoder_2": self.t5}

    def exported(self) -> Exported | None:
        """What an exported folder says beside the networks; None if the network reads what no pipeline supplies."""
        tokenizers = {"tokenizer": self.clip.tokenizer, "tokenizer_2": self.t5.tokenizer}
        return Exported("FluxPipeline" if self.reads is None else _PIPELINES[self.reads], tokenizers)

    @property
    def text_shape(self) -> TextShape:
        return TextShape(self.t5.encoder.config.d_model, self.clip.encoder.config.hidden_size)

    def negative_guidance(self, request: Request) -> Guidance | None:
        return request.true_guidance if is_guided(request.true_guidance) else None

    def encode_texts(self, texts: Sequence[Text], request: Request) -> Encoding:
        prompts = [text or "" for text, _ in texts]
        length = request.text_tokens(self.t5.longest, self.t5.default_length())
        return Encoding(self.t5.encode(prompts, length), self.clip.encode_pooled(prompts))

    def beside_text(self, request: Request, like: Tensor, *, negative: bool) -> Conditioning:
        embedding = [network.config.guidance_embeds for network in (self.transformer, *self.steering)]
        if not any(embedding):
            return {}
        name = "guidance" if embedding[0] else "control_guidance"
        return {name: torch.tensor(request.embedded_guidance, device=like.device)}

    def steered(self, prompted: Prompted, pictures: Tensor, modes: Modes) -> Prompted:
        """The encoded prompts with what the ControlNets read: the prompt in both branches, as published."""
        steered = super().steered(prompted, pictures, modes)
        if steered.negative is None:
            return steered
        return steered.both(**{f"control_{name}": prompted.conditional[name] for name in ("context", "pooled")})

    def control_latents(self, net: FluxControlNet, pictures: Tensor) -> Tensor:
        """What a ControlNet reads: the latents of the picture, or what its own convolutions make of it."""
        if net.downscale is None:
            return super().control_latents(net, pictures)
        return net.embed_picture(2 * pictures - 1)

    def condition(self, request: Request) -> Prompted:
        if any(request.negatives) and self.negative_guidance(request) is None:
            warnings.warn("negative_prompt has no effect on this checkpoint unless true_guidance > 1", stacklevel=4)
        return super().condition(request)

    @classmethod
    def _check_widths(cls, transformer: FluxConfig, vae: AutoencoderConfig, clip: Any, t5: Any) -> None:
        """Raise ValueError if components of these configs do not fit each other."""
        read, predicted = transformer.in_channels, transformer.out_channels or transformer.in_channels
        if cls.reads_of(transformer, vae) in (MASK, CONTROL):  # then only the prediction has the latents' channels
            read = predicted
        for label, found, field, expected in (
            ("text_encoder is", clip.hidden_size, "pooled_projection_dim", transformer.pooled_projection_dim),
            ("text_encoder_2 is", t5.d_model, "joint_attention_dim", transformer.joint_attention_dim),
            ("vae's latents are", vae.latent_channels, "in_channels / 4", read // 4),
            ("prediction is", predicted, "in_channels", read),
        ):
            if found != expected:
                raise ValueError(
                    f"the {label} {found} wide, the transformer's {field} is {expected} (transformer/config.json, and "
                    "config.json in text_encoder/, text_encoder_2/ and vae/)"
                )


class FluxFill(Flux):
    """The components of a FluxFillPipeline checkpoint, whose network reads a mask and the masked picture."""

    default_guidance: ClassVar[float] = 30.0


_PIPELINES: Final = {MASK: "FluxFillPipeline", CONTROL: "FluxControlPipeline", REFERENCE: "FluxKontextPipeline"}
"""Pipelines of transformers by what they read beside the latents."""


def fills(transformer: FluxConfig, vae: AutoencoderConfig) -> bool:
    """Whether a transformer reads the masked picture and all pixels of the mask beside the latents (Fill)."""
    return transformer.latent_channels == 2 * vae.latent_channels + vae.downscale**2
