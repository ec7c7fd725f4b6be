"""Z-Image and its Turbo (Cai et al. 2025, arXiv 2511.22699): a Qwen3 text encoder, a transformer, an autoencoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sadaflow.models import Autoencoder, AutoencoderConfig
from sadaflow.models.z_image import ZImageConfig, ZImageTransformer
from sadaflow.models.z_image.config import UNIT
from sadaflow.models.z_image.original import from_original

from ..guidance import Rule
from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..loading.sampling_defaults import Recommended
from .base import Conditioning, Prompted, autoencoder_config, build_autoencoder, trained_size
from .chat_text import ChatText, chat_message
from .guidance_options import Guidance, is_guided
from .hooks import ReadJson
from .latent_transformer import LatentTransformer
from .request import Request

_TURBO_SHIFT = 3.0
"""The shift of flow time of Turbo; that of the base model is 6."""
_STATES = (-2,)


class ZImage(LatentTransformer):
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
    options: ClassVar[frozenset[str]] = frozenset({"max_sequence_length"})
    default_guidance: ClassVar[float] = 4.0
    patch: ClassVar[int] = 2

    original = staticmethod(from_original)

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

    def condition(self, request: Request) -> Prompted:
        length, guided = request.text_tokens(self.text.longest), is_guided(request.known_guidance, above=0)
        prompts, negatives = list(request.prompts), [negative or "" for negative in request.negatives]
        unique = list(dict.fromkeys([*prompts, *negatives] if guided else prompts))
        texts = [chat_message(prompt, thinking=True) for prompt in unique]
        states, known = self.text.encode(texts, length, _STATES)
        rows = [state[own] for state, own in zip(states.to(self.dtype), known.to(states.device), strict=True)]
        given = _padded(rows, known.sum(dim=1).tolist())

        def branch(chosen: Sequence[str]) -> Conditioning:
            indices = [unique.index(prompt) for prompt in chosen]
            return {name: tensor[indices] for name, tensor in given.items()}

        if not guided:
            return Prompted(branch(prompts), None)
        return Prompted(branch(prompts), branch(negatives), _from_negative(request.known_guidance))


def _from_negative(guidance: Guidance) -> Guidance:
    """Guidance as the scale of the way from the negative branch, which is 1 more than the published pipeline's."""
    if isinstance(guidance, Rule):
        return guidance
    return tuple(scale + 1 for scale in guidance) if isinstance(guidance, tuple) else guidance + 1


def _padded(rows: Sequence[Tensor], lengths: Sequence[int]) -> dict[str, Tensor]:
    """Arguments of the transformer for states (L, width) of prompts of L tokens each; see `ZImageTransformer`."""
    device = rows[0].device
    units = [-(-length // UNIT) * UNIT for length in lengths]
    longest = max(units)
    context = pad_sequence([*rows, rows[0].new_zeros(longest, rows[0].shape[1])], batch_first=True)[:-1]
    given = {"context": context, "length": torch.tensor(lengths, device=device)}
    if min(units) == longest:
        return given
    return {**given, "mask": torch.arange(longest, device=device) < torch.tensor(units, device=device)[:, None]}


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
