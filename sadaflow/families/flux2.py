"""FLUX.2 (Black Forest Labs 2025): a language model as text encoder, a flow transformer, an autoencoder."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sadaflow.models import Autoencoder
from sadaflow.models.flux2 import Flux2Autoencoder, Flux2AutoencoderConfig, Flux2Config, Flux2Transformer

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..loading.sampling_defaults import Recommended
from .base import Conditioning, Prompted, trained_size
from .chat_text import ChatText, chat_message, mistral_message
from .exported import Exported
from .hooks import ReadJson
from .latent_transformer import LatentTransformer
from .prompt_encoder import PreparedEncoder
from .request import Request
from .text_encoding import Encoding
from .text_family import BLENDED, ENCODED, Text, TextFamily, TextShape

_FEW, _MANY, _LONG = (8.73809524e-5, 1.89833333), (1.6927e-4, 0.45666666), 4300


class _Flux2(LatentTransformer, TextFamily):
    """What the pipelines of FLUX.2 share; subclasses differ in text encoder and guidance.

    Raises:
        ValueError: If the components do not fit each other.
    """

    autoencoder: ClassVar[type[Autoencoder]] = Flux2Autoencoder
    options: ClassVar[frozenset[str]] = frozenset({"max_sequence_length"}) | ENCODED | BLENDED
    default_guidance: ClassVar[float] = 4.0
    patch: ClassVar[int] = 1
    layers: ClassVar[tuple[int, ...]]
    """Layers of the text encoder whose outputs condition the network, side by side."""
    embeds: ClassVar[bool]
    """Whether the network embeds the guidance strength."""

    def __init__(
        self, backbone: Flux2Transformer, vae: Flux2Autoencoder, text: ChatText, dtype: torch.dtype, *, distilled: bool
    ) -> None:
        self._check(backbone.config, vae.config, text.encoder.config)
        self.default_size = trained_size(vae.config, self.patch)
        self.backbone = backbone
        self.vae = vae
        self.text = text
        self.dtype = dtype
        self.distilled = distilled

    @classmethod
    def prepare_text(cls, checkpoint: Checkpoint) -> PreparedEncoder:
        """Read and check the text encoder's config and its tokenizer."""
        raise NotImplementedError

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        transformer = checkpoint.read(Flux2Config.from_dict, "transformer", "config.json")
        vae = checkpoint.read(Flux2AutoencoderConfig.from_dict, "vae", "config.json")
        text = cls.prepare_text(checkpoint)
        distilled = _is_distilled(checkpoint.json("model_index.json"))
        with naming(checkpoint.root):
            cls._check(transformer, vae, text.config)
            trained_size(vae, cls.patch)
        return lambda: cls(
            checkpoint.network("transformer", lambda: Flux2Transformer(transformer)),
            checkpoint.network("vae", lambda: Flux2Autoencoder(vae)),
            ChatText.build(text),
            checkpoint.dtype,
            distilled=distilled,
        )

    def sized_scheduler(self, config: dict[str, Any], tokens: int, steps: int) -> dict[str, Any]:
        """The scheduler config with the shift exp(mu) of a call, in place of its own rule."""
        if not config.get("use_dynamic_shifting"):
            return config
        return {**config, "use_dynamic_shifting": False, "shift": math.exp(shift_mu(tokens, steps))}

    @property
    def latent_channels(self) -> int:
        return self.vae.config.network_channels

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        return {"transformer": self.backbone, "text_encoder": self.text.encoder}

    @property
    def text_shape(self) -> TextShape:
        return TextShape(self.backbone.config.joint_attention_dim)

    @classmethod
    def message(cls, prompt: str) -> str:
        """A prompt in its template."""
        raise NotImplementedError

    def encode_texts(self, texts: Sequence[Text], request: Request) -> Encoding:
        messages = [self.message(text or "") for text, _ in texts]
        return Encoding(self.text.encode(messages, request.text_tokens(self.text.longest), self.layers)[0])

    @classmethod
    def _check(cls, transformer: Flux2Config, vae: Flux2AutoencoderConfig, text: Any) -> None:
        """Raise ValueError if components of these configs do not fit each other."""
        if transformer.guidance_embeds != cls.embeds:
            raise ValueError(
                f"guidance_embeds={transformer.guidance_embeds} in transformer/config.json; a {cls.__name__} has "
                f"{cls.embeds}"
            )
        count, predicted = len(cls.layers), transformer.out_channels or transformer.in_channels
        for label, found, field, expected in (
            (f"states of {count} layers of text_encoder are", count * text.hidden_size, "joint_attention_dim",
             transformer.joint_attention_dim),
            ("vae's latents are", vae.network_channels, "in_channels", transformer.in_channels),
            ("prediction is", predicted, "in_channels", transformer.in_channels),
        ):  # fmt: skip
            if found != expected:
                raise ValueError(
                    f"the {label} {found} wide, the transformer's {field} is {expected} (transformer/config.json, and "
                    "config.json in text_encoder/ and vae/)"
                )


class Flux2Klein(_Flux2):
    """The components of a Flux2KleinPipeline checkpoint.

    Distilled checkpoints (`is_distilled` in model_index.json) are sampled without guidance; the others are guided by a
    negative prompt.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "transformer": "Flux2Transformer2DModel",
        "vae": "AutoencoderKLFlux2",
        "text_encoder": ("Qwen3ForCausalLM", "Qwen3Model"),
    }
    layers = (9, 18, 27)
    embeds = False

    @classmethod
    def prepare_text(cls, checkpoint: Checkpoint) -> PreparedEncoder:
        return ChatText.prepare(checkpoint, "Qwen3Model", "Qwen2TokenizerFast", deepest=cls.layers[-1])

    @classmethod
    def recommended(cls, read: ReadJson) -> Recommended:
        """What the authors recommend: 4 steps without guidance if distilled, else 50 steps with guidance 4."""
        distilled = _is_distilled(read("model_index.json"))
        return Recommended(1.0, 4, "euler") if distilled else Recommended(cls.default_guidance, 50, "euler")

    def exported(self) -> Exported:
        """What an exported folder says beside the networks."""
        return Exported("Flux2KleinPipeline", {"tokenizer": self.text.tokenizer}, {"is_distilled": self.distilled})

    @classmethod
    def message(cls, prompt: str) -> str:
        return chat_message(prompt, thinking=False)

    @property
    def guidable(self) -> bool:
        return not self.distilled

    def condition(self, request: Request) -> Prompted:
        if self.distilled and (request.guided or any(request.negatives)):
            warnings.warn(
                "guidance and negative_prompt have no effect on this checkpoint: it was distilled to need none",
                stacklevel=4,
            )
        return super().condition(request)


class Flux2Dev(_Flux2):
    """The components of a Flux2Pipeline checkpoint (FLUX.2 dev), whose network embeds `guidance`."""

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "transformer": "Flux2Transformer2DModel",
        "vae": "AutoencoderKLFlux2",
        "text_encoder": "Mistral3ForConditionalGeneration",
    }
    layers = (10, 20, 30)
    embeds = True

    @classmethod
    def prepare_text(cls, checkpoint: Checkpoint) -> PreparedEncoder:
        deepest = cls.layers[-1]
        return ChatText.prepare(checkpoint, "MistralModel", "PreTrainedTokenizerFast", deepest, padding_side="left")

    @classmethod
    def recommended(cls, read: ReadJson) -> Recommended:
        """What the authors recommend: 50 steps with guidance 4."""
        return Recommended(cls.default_guidance, 50, "euler")

    @classmethod
    def message(cls, prompt: str) -> str:
        return mistral_message(prompt)

    @property
    def guidable(self) -> bool:
        return False

    def beside_text(self, request: Request, like: Tensor, *, negative: bool) -> Conditioning:
        return {"guidance": torch.tensor(request.embedded_guidance, device=like.device)}

    def condition(self, request: Request) -> Prompted:
        if any(request.negatives):
            warnings.warn("negative_prompt has no effect on this checkpoint: its network embeds guidance", stacklevel=4)
        return super().condition(request)


def shift_mu(tokens: int, steps: int) -> float:
    """mu of the shift of flow time for an image of `tokens` tokens in `steps` steps.

    It is linear in the tokens at 10 steps and at 200, and between and beyond them linear in the steps; for more than
    4300 tokens it is that at 200 steps.
    """
    few, many = (slope * tokens + start for slope, start in (_FEW, _MANY))
    return many if tokens > _LONG else many + (many - few) / 190 * (steps - 200)


def _is_distilled(index: Mapping[str, Any]) -> bool:
    """Whether a model_index.json says so; raises ValueError if its field is not a switch."""
    value = index.get("is_distilled", False)
    if not isinstance(value, bool):
        raise ValueError(f"model_index.json: is_distilled={value!r} is not true or false")
    return value
