"""Qwen-Image (Qwen team 2025, arXiv 2508.02324): Qwen2.5-VL as text encoder, a transformer, a video autoencoder."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
from .chat_text import ChatText, as_context
from .hooks import REFERENCE, ReadJson
from .latent_transformer import LatentTransformer
from .picture_patches import PatchSettings
from .picture_text import PICTURE_TOKEN, PictureText
from .prompt_encoder import PreparedEncoder
from .reference_pictures import encoded, fitted, opened, resized
from .request import Request
from .required_negatives import required_negatives

_DESCRIBE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_EDIT = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_PICTURE = f"<|vision_start|>{PICTURE_TOKEN}<|vision_end|>"
_BEFORE, _BEFORE_EDIT = 34, 64
"""Numbers of tokens of the templates before the user's message, whose states are not used."""
_TOKENIZER = "Qwen2TokenizerFast"
_LONGEST, _USUAL = 1024, 512
"""Largest number of tokens of a prompt and of what follows it, and the number to which the published pipeline cuts."""


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
    empty_negative: ClassVar[str] = " "
    patch: ClassVar[int] = 2

    text: ChatText

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
    def prepare_text(cls, checkpoint: Checkpoint) -> tuple[PreparedEncoder, Callable[[], ChatText]]:
        """Reads and checks the text encoder's config and its tokenizer; also returns the function that builds it."""
        text = ChatText.prepare(checkpoint, "Qwen2_5_VLTextModel", _TOKENIZER, padding_side="right")
        return text, lambda: ChatText.build(text)

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        transformer = checkpoint.read(QwenImageConfig.from_dict, "transformer", "config.json")
        vae = checkpoint.read(CausalAutoencoderConfig.from_dict, "vae", "config.json")
        encoder, build_text = cls.prepare_text(checkpoint)
        with naming(checkpoint.root):
            _check_widths(transformer, vae, encoder.config)
            trained_size(vae, cls.patch)
        return lambda: cls(
            checkpoint.network("transformer", lambda: QwenImageTransformer(transformer)),
            checkpoint.network("vae", lambda: CausalAutoencoder(vae)),
            build_text(),
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

    def _encoded(self, prompts: Sequence[str], length: int) -> Conditioning:
        """Text arguments of the transformer, a row for each prompt."""
        texts = [_DESCRIBE.format(prompt) for prompt in prompts]
        states, known = self.text.encode(texts, _BEFORE + length, (-1,), fill=False)
        return as_context(states[:, _BEFORE:].to(self.dtype), known[:, _BEFORE:])


class QwenImageEdit(QwenImage):
    """The components of a QwenImageEditPipeline checkpoint, which changes a picture as the prompt says.

    The picture is resized to about a million pixels. The text encoder reads it with the prompt, and the transformer its
    latents as further tokens.
    """

    options: ClassVar[frozenset[str]] = frozenset()
    reads: ClassVar[str] = REFERENCE
    several: ClassVar[bool] = False
    """Whether a sample may have more than one picture."""
    area: ClassVar[int] = 1024 * 1024
    """Pixels of the pictures whose latents are read, and of the result if the request gives no size."""
    seen_area: ClassVar[int] = area
    """Pixels of the pictures that the text encoder reads."""

    text: PictureText

    @classmethod
    def prepare_text(cls, checkpoint: Checkpoint) -> tuple[PreparedEncoder, Callable[[], ChatText]]:
        text = PictureText.prepare(checkpoint, "Qwen2_5_VLModel", _TOKENIZER, padding_side="right")
        settings = checkpoint.read(PatchSettings.from_dict, "processor", "preprocessor_config.json")
        return text, lambda: PictureText.built(text, settings)

    def size_for(self, request: Request) -> tuple[int, int]:
        """Height and width in pixels of a request that gives none: those of its last picture, resized."""
        return fitted(opened(request.image, len(request.prompts), several=self.several)[0][-1], self.area)

    def condition(self, request: Request) -> Prompted:
        prompts, negatives = list(request.prompts), required_negatives(request)
        pictures = opened(request.image, len(prompts), several=self.several)
        edited = {
            f"edited{index}": encoded(self.vae, position).to(self.dtype)
            for index, position in enumerate(zip(*resized(pictures, partial(fitted, area=self.area)), strict=True))
        }
        seen = resized(pictures, partial(fitted, area=self.seen_area))
        given = self._seen([*prompts, *negatives], seen * (2 if negatives else 1))

        def branch(rows: slice) -> Conditioning:
            return {**{name: tensor[rows] for name, tensor in given.items()}, **edited}

        count = len(prompts)
        negative = branch(slice(count, None)) if negatives else None
        return Prompted(branch(slice(count)), negative, keeps_length=self.patch)

    def template(self, pictures: int) -> str:
        """The text around a prompt with this number of pictures."""
        return _EDIT.format(_PICTURE + "{}")

    def _seen(self, prompts: Sequence[str], pictures: Sequence[Sequence[Tensor]]) -> Conditioning:
        """Text arguments of the transformer, a row for each prompt and its pictures."""
        texts = [self.template(len(row)).format(prompt) for prompt, row in zip(prompts, pictures, strict=True)]
        states, known = self.text.encode_pictures(texts, pictures)
        return as_context(states[:, _BEFORE_EDIT:].to(self.dtype), known[:, _BEFORE_EDIT:])


class QwenImageEditPlus(QwenImageEdit):
    """The components of a QwenImageEditPlusPipeline checkpoint (Qwen-Image-Edit-2509, 2511): pictures are numbered.

    The text encoder reads smaller versions of them.
    """

    several: ClassVar[bool] = True
    seen_area: ClassVar[int] = 384 * 384

    @classmethod
    def recommended(cls, read: ReadJson) -> Recommended:
        """What the authors recommend: 40 steps with guidance 4."""
        return Recommended(cls.default_guidance, 40, "euler")

    def template(self, pictures: int) -> str:
        numbered = "".join(f"Picture {index + 1}: {_PICTURE}" for index in range(pictures))
        return _EDIT.format(numbered + "{}")


def _check_widths(transformer: QwenImageConfig, vae: AutoencoderConfig, text: Any) -> None:
    """Raise ValueError if components of these configs do not fit each other."""
    width = getattr(text, "text_config", text).hidden_size
    for label, found, field, expected in (
        ("text_encoder is", width, "joint_attention_dim", transformer.joint_attention_dim),
        ("vae's latents are", 4 * vae.latent_channels, "in_channels", transformer.in_channels),
    ):
        if found != expected:
            raise ValueError(
                f"the {label} {found} wide, the transformer's {field} is {expected} (transformer/config.json, and "
                "config.json in text_encoder/ and vae/)"
            )
