"""Z-Image and its Turbo (Cai et al. 2025, arXiv 2511.22699): a Qwen3 text encoder, a transformer, an autoencoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import nn
from torch.nn import functional as F

from sadaflow.models import Autoencoder, AutoencoderConfig
from sadaflow.models.z_image import ZImageConfig, ZImageTransformer
from sadaflow.models.z_image.config import UNIT

from ..guidance import Rule
from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..loading.sampling_defaults import Recommended
from .base import Conditioning, autoencoder_config, build_autoencoder, trained_size
from .chat_text import ChatText, chat_message
from .exported import Exported
from .guidance_options import Guidance, is_guided
from .hooks import ReadJson
from .latent_transformer import LatentTransformer
from .request import Request
from .text_encoding import Encoding, unpadded
from .text_family import ENCODED, Text, TextFamily, TextShape

_TURBO_SHIFT = 3.0
"""The shift of flow time of Turbo; that of the base model is 6."""
_STATES = (-2,)


class ZImage(LatentTransformer, TextFamily):
    """The components of a ZImagePipeline checkpoint.

    `guidance` g is that of the published pipeline: the guided prediction is p + g (p - n), so 0 is none.

    Raises:
        ValueError: If the components do not fit each other.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "transformer": "ZImageTransformer2DModel",
        "vae": "AutoencoderKL",
        "text_encoder": "Qwen3Model",
    }
    options: ClassVar[frozenset[str]] = frozenset({"max_sequence_length"}) | ENCODED
    default_guidance: ClassVar[float] = 4.0
    patch: ClassVar[int] = 2

    def __init__(self, backbone: ZImageTransformer, vae: Autoencoder, text: ChatText, dtype: torch.dtype) -> None:
        _check_widths(backbone.config, vae.config, text.encoder.config)
        self.default_size = trained_size(vae.config, self.patch)
        self.backbone = backbone
        self.vae = vae
        self.text = text
        self.dtype = dtype

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        transformer = checkpoint.read(ZImageConfig.from_dict, "transformer", "config.json")
        vae = autoencoder_config(checkpoint)
        text = ChatText.prepare(checkpoint, "Qwen3Model", "Qwen2TokenizerFast", deepest=1)
        with naming(checkpoint.root):
            _check_widths(transformer, vae, text.config)
            trained_size(vae, cls.patch)
        return lambda: cls(
            checkpoint.network("transformer", lambda: ZImageTransformer(transformer)),
            build_autoencoder(checkpoint, vae),
            ChatText.build(text),
            checkpoint.dtype,
        )

    @classmethod
    def recommended(cls, read: ReadJson) -> Recommended:
        """What the authors recommend: 8 steps without guidance for Turbo, 50 steps with guidance 4 for the base."""
        turbo = read("scheduler/scheduler_config.json").get("shift") == _TURBO_SHIFT
        return Recommended(0.0, 8, "euler") if turbo else Recommended(cls.default_guidance, 50, "euler")

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        return {"transformer": self.backbone, "text_encoder": self.text.encoder}

    def exported(self) -> Exported:
        """What an exported folder says beside the networks."""
        return Exported("ZImagePipeline", {"tokenizer": self.text.tokenizer})

    @property
    def text_shape(self) -> TextShape:
        return TextShape(self.text.encoder.config.hidden_size, ragged=True)

    def negative_guidance(self, request: Request) -> Guidance | None:
        guidance = request.known_guidance
        return _from_negative(guidance) if is_guided(guidance, above=0) else None

    def encode_texts(self, texts: Sequence[Text], request: Request) -> Encoding:
        messages = [chat_message(text or "", thinking=True) for text, _ in texts]
        return unpadded(*self.text.encode(messages, request.text_tokens(self.text.longest), _STATES))

    def given(self, encoding: Encoding) -> Conditioning:
        """Arguments of the transformer; see `ZImageTransformer`."""
        states, lengths = encoding.states, encoding.all_lengths
        units = [-(-length // UNIT) * UNIT for length in lengths]
        longest = max(units)
        context = F.pad(states[:, :longest], (0, 0, 0, max(0, longest - states.shape[1])))
        given = {"context": context, "length": torch.tensor(lengths, device=states.device)}
        if min(units) == longest:
            return given
        positions = torch.arange(longest, device=states.device)
        return {**given, "mask": positions < torch.tensor(units, device=states.device)[:, None]}


def _check_widths(transformer: ZImageConfig, vae: AutoencoderConfig, text: Any) -> None:
    """Raise ValueError if components of these configs do not fit each other."""
    for label, found, field, expected in (
        ("text_encoder is", text.hidden_size, "cap_feat_dim", transformer.cap_feat_dim),
        ("vae's latents are", vae.latent_channels, "in_channels", transformer.in_channels),
    ):
        if found != expected:
            raise ValueError(
                f"the {label} {found} wide, the transformer's {field} is {expected} (transformer/config.json, and "
                "config.json in text_encoder/ and vae/)"
            )


def _from_negative(guidance: Guidance) -> Guidance:
    """Guidance as the scale of the way from the negative branch, which is 1 more than the published pipeline's."""
    if isinstance(guidance, Rule):
        return guidance
    return tuple(scale + 1 for scale in guidance) if isinstance(guidance, tuple) else guidance + 1
