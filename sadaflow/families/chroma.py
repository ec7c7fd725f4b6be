"""Chroma (lodestones 2025): a T5 text encoder, Flux.1's transformer without its embedded guidance, a KL autoencoder."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sadaflow.models import Autoencoder, AutoencoderConfig
from sadaflow.models.chroma import ChromaConfig, ChromaTransformer

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..loading.sampling_defaults import Recommended
from .base import Conditioning, Prompted, autoencoder_config, build_autoencoder, trained_size
from .exported import Exported
from .hooks import ReadJson
from .latent_transformer import LatentTransformer
from .prompt_encoder import ClipText, T5Text
from .request import Request


class Chroma(LatentTransformer):
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
    options: ClassVar[frozenset[str]] = frozenset({"max_sequence_length"})
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

    def condition(self, request: Request) -> Prompted:
        length = request.text_tokens(self.t5.longest)
        negatives = [negative or "" for negative in request.negatives]
        unique = list(dict.fromkeys([*request.prompts, *negatives] if request.guided else request.prompts))
        states, known = self.t5.encode_masked(unique, length)
        given = _attended(states.to(self.dtype), known)

        def branch(prompts: list[str]) -> Conditioning:
            rows = [unique.index(prompt) for prompt in prompts]
            return {name: tensor[rows] for name, tensor in given.items()}

        return Prompted(branch(list(request.prompts)), branch(negatives) if request.guided else None)


def _attended(states: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Arguments of the transformer: the tokens of a prompt and one more, without those that no prompt attends to."""
    lengths = known.sum(dim=1)
    counts = [min(count + 1, states.shape[1]) for count in lengths.tolist()]
    longest = max(counts)
    given = {"context": states[:, :longest]}
    if min(counts) == longest:
        return given
    return {**given, "mask": torch.arange(longest, device=states.device) <= lengths[:, None]}


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
