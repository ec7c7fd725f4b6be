"""Qwen-Image (Qwen team 2025, arXiv 2508.02324): Qwen2.5-VL as text encoder, a transformer, a video autoencoder."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sadaflow.models import Autoencoder, AutoencoderConfig
from sadaflow.models.causal_autoencoder import CausalAutoencoder, CausalAutoencoderConfig
from sadaflow.models.qwen_image import QwenImageConfig, QwenImageTransformer

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..loading.sampling_defaults import Recommended
from .base import Conditioning, Prompted, trained_size
from .chat_text import ChatText
from .hooks import ReadJson
from .latent_transformer import LatentTransformer
from .request import Request

_DESCRIBE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_DROPPED = 34
"""Number of tokens of the template before the prompt, whose states are not used."""
_LONGEST, _USUAL = 1024, 512
"""Largest number of tokens of a prompt and of what follows it, and the number to which the published pipeline cuts."""
_STATES = (-1,)


class QwenImage(LatentTransformer):
    """The components of a QwenImagePipeline checkpoint.

    Guidance needs a negative prompt, as in the published pipeline: a request without any is not guided. The guided
    prediction is as long as the conditional one at each token.

    Raises:
        ValueError: If the components do not fit each other.
    """

    autoencoder: ClassVar[type[Autoencoder]] = CausalAutoencoder
    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "transformer": "QwenImageTransformer2DModel",
        "vae": "AutoencoderKLQwenImage",
        "text_encoder": "Qwen2_5_VLForConditionalGeneration",
    }
    options: ClassVar[frozenset[str]] = frozenset({"max_sequence_length"})
    default_guidance: ClassVar[float] = 4.0
    patch: ClassVar[int] = 2

    def __init__(
        self, backbone: QwenImageTransformer, vae: CausalAutoencoder, text: ChatText, dtype: torch.dtype
    ) -> None:
        _check_widths(backbone.config, vae.config, text.encoder.config)
        self.default_size = trained_size(vae.config, self.patch)
        self.backbone = backbone
        self.vae = vae
        self.text = text
        self.dtype = dtype

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        transformer = checkpoint.read(QwenImageConfig.from_dict, "transformer", "config.json")
        vae = checkpoint.read(CausalAutoencoderConfig.from_dict, "vae", "config.json")
        text = ChatText.prepare(checkpoint, "Qwen2_5_VLTextModel", "Qwen2TokenizerFast", padding_side="right")
        with naming(checkpoint.root):
            _check_widths(transformer, vae, text.config)
            trained_size(vae, cls.patch)
        return lambda: cls(
            checkpoint.network("transformer", lambda: QwenImageTransformer(transformer)),
            checkpoint.network("vae", lambda: CausalAutoencoder(vae)),
            ChatText.build(text),
            checkpoint.dtype,
        )

    @classmethod
    def recommended(cls, read: ReadJson) -> Recommended:
        """What the authors recommend: 50 steps with guidance 4."""
        return Recommended(cls.default_guidance, 50, "euler")

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        return {"transformer": self.backbone, "text_encoder": self.text.encoder}

    def condition(self, request: Request) -> Prompted:
        prompts, negatives = list(request.prompts), required_negatives(request)
        unique = list(dict.fromkeys([*prompts, *negatives]))
        given = self._encoded(unique, request.text_tokens(_LONGEST, _USUAL))

        def branch(chosen: Sequence[str]) -> Conditioning:
            indices = [unique.index(prompt) for prompt in chosen]
            return {name: tensor[indices] for name, tensor in given.items()}

        return Prompted(branch(prompts), branch(negatives) if negatives else None, keeps_length=self.patch)

    def _encoded(self, prompts: Sequence[str], length: int) -> dict[str, Tensor]:
        """Text arguments of the transformer, a row for each prompt; see `QwenImageTransformer.prepare`."""
        texts = [_DESCRIBE.format(prompt) for prompt in prompts]
        states, known = self.text.encode(texts, _DROPPED + length, _STATES, fill=False)
        return text_arguments(states[:, _DROPPED:].to(self.dtype), known[:, _DROPPED:])


def required_negatives(request: Request) -> list[str]:
    """The negative prompts of a guided request, one for each sample; none if it is not guided.

    Raises:
        ValueError: If some samples have one and others do not.
    """
    negatives = [negative for negative in request.negatives if negative is not None]
    if not request.guided:
        return []
    if not negatives:
        warnings.warn(
            f"guidance={request.guidance_scale:g} has no effect without a negative prompt: give negative_prompt=' ', "
            "which is an empty one, or guidance=1",
            stacklevel=5,
        )
    elif len(negatives) < len(request.prompts):
        raise ValueError("negative_prompt is None for some samples: give one for every sample, or for none")
    return negatives


def text_arguments(states: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Text arguments of the transformer: states (B, L, width) with zeros for padding, and a mask if there is any.

    Args:
        states: (B, L, width).
        known: Which tokens are not padding, bool (B, L), on any device.
    """
    if bool(known.all()):
        return {"context": states}
    mask = known.to(states.device)
    return {"context": states * mask[:, :, None], "mask": mask}


def _check_widths(transformer: QwenImageConfig, vae: AutoencoderConfig, text: Any) -> None:
    """Raise ValueError if components of these configs do not fit each other."""
    for label, found, field, expected in (
        ("text_encoder is", text.hidden_size, "joint_attention_dim", transformer.joint_attention_dim),
        ("vae's latents are", 4 * vae.latent_channels, "in_channels", transformer.in_channels),
    ):
        if found != expected:
            raise ValueError(
                f"the {label} {found} wide, the transformer's {field} is {expected} (transformer/config.json, and "
                "config.json in text_encoder/ and vae/)"
            )
