"""Chroma (lodestones 2025): a T5 text encoder, Flux.1's transformer without its embedded guidance, a KL autoencoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import nn

from sadaflow.models import Autoencoder, AutoencoderConfig
from sadaflow.models.chroma import ChromaConfig, ChromaTransformer

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..loading.sampling_defaults import Recommended
from .base import Conditioning, autoencoder_config, build_autoencoder, trained_size
from .exported import Exported
from .hooks import ReadJson
from .latent_transformer import LatentTransformer
from .prompt_encoder import ClipText, T5Text
from .request import Request
from .text_encoding import Encoding
from .text_family import ENCODED, Text, TextFamily, TextShape


class Chroma(LatentTransformer, TextFamily):
    """The components of a ChromaPipeline checkpoint.

    Text tokens that pad a prompt are masked, but for the first, as in training. Diffusers (0.42) means to do so, but
    its mask only adds 1 to the attention logits of the others (huggingface/diffusers issue 12116).

    Raises:
        ValueError: If the components do not fit each other.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "transformer": "ChromaTransformer2DModel",
        "vae": "AutoencoderKL",
        "text_encoder": "T5EncoderModel",
    }
    options: ClassVar[frozenset[str]] = frozenset({"max_sequence_length"}) | ENCODED
    default_guidance: ClassVar[float] = 5.0
    patch: ClassVar[int] = 2

    def __init__(self, backbone: ChromaTransformer, vae: Autoencoder, t5: T5Text, dtype: torch.dtype) -> None:
        _check_widths(backbone.config, vae.config, t5.encoder.config)
        self.default_size = trained_size(vae.config, self.patch)
        self.backbone = backbone
        self.vae = vae
        self.t5 = t5
        self.dtype = dtype

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        transformer = checkpoint.read(ChromaConfig.from_dict, "transformer", "config.json")
        vae, t5 = autoencoder_config(checkpoint), T5Text.prepare(checkpoint, "")
        with naming(checkpoint.root):
            _check_widths(transformer, vae, t5.config)
            trained_size(vae, cls.patch)
        return lambda: cls(
            checkpoint.network("transformer", lambda: ChromaTransformer(transformer)),
            build_autoencoder(checkpoint, vae),
            T5Text.build(t5),
            checkpoint.dtype,
        )

    @classmethod
    def recommended(cls, read: ReadJson) -> Recommended:
        """What the authors recommend: 40 steps with guidance 3."""
        return Recommended(3.0, 40, "euler")

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        return {"transformer": self.backbone, "text_encoder": self.t5.encoder}

    @property
    def prompt_encoders(self) -> Mapping[str, ClipText | T5Text]:
        return {"text_encoder": self.t5}

    def exported(self) -> Exported:
        """What an exported folder says beside the networks."""
        return Exported("ChromaPipeline", {"tokenizer": self.t5.tokenizer})

    @property
    def text_shape(self) -> TextShape:
        return TextShape(self.t5.encoder.config.d_model, ragged=True)

    def encode_texts(self, texts: Sequence[Text], request: Request) -> Encoding:
        """Encode texts; the tokens of each and one more are attended to."""
        length = request.text_tokens(self.t5.longest, self.t5.default_length())
        states, known = self.t5.encode_masked([text or "" for text, _ in texts], length)
        return Encoding(states, None, tuple(min(count + 1, length) for count in known.sum(dim=1).tolist()))

    def given(self, encoding: Encoding) -> Conditioning:
        """Arguments of the transformer, without tokens that no prompt attends to."""
        known = encoding.known.to(encoding.states.device)
        context = encoding.states[:, : known.shape[1]]
        return {"context": context} if encoding.even else {"context": context, "mask": known}


def _check_widths(transformer: ChromaConfig, vae: AutoencoderConfig, t5: Any) -> None:
    """Raise ValueError if components of these configs do not fit each other."""
    predicted = transformer.out_channels or transformer.in_channels
    for label, found, field, expected in (
        ("text_encoder is", t5.d_model, "joint_attention_dim", transformer.joint_attention_dim),
        ("vae's latents are", vae.latent_channels, "in_channels / 4", transformer.latent_channels),
        ("prediction is", predicted, "in_channels", transformer.in_channels),
    ):
        if found != expected:
            raise ValueError(
                f"the {label} {found} wide, the transformer's {field} is {expected} (transformer/config.json, and "
                "config.json in text_encoder/ and vae/)"
            )
