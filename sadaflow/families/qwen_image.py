"""Qwen-Image (Qwen team 2025, arXiv 2508.02324): Qwen2.5-VL as text encoder, a transformer, a video autoencoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import nn

from sadaflow.models import Autoencoder, AutoencoderConfig
from sadaflow.models.causal_autoencoder import CausalAutoencoder, CausalAutoencoderConfig
from sadaflow.models.qwen_image import QwenImageConfig, QwenImageTransformer

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..loading.sampling_defaults import Recommended
from .base import Conditioning, Prompted, trained_size
from .chat_text import ChatText
from .exported import Exported
from .guidance_options import Guidance
from .hooks import REFERENCE, ReadJson
from .latent_transformer import LatentTransformer
from .picture_patches import PatchSettings
from .picture_text import PICTURE_TOKEN, PictureText
from .prompt_encoder import PreparedEncoder
from .reference_pictures import encoded, fitted, opened, resized
from .request import Request
from .required_negatives import has_negatives, required_guidance
from .text_encoding import Encoding, unpadded
from .text_family import ENCODED, Sides, Text, TextFamily, TextShape

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


class _QwenImage(LatentTransformer, TextFamily):
    """What the pipelines of Qwen-Image share; subclasses differ in what the text encoder reads.

    Guidance needs a negative prompt, as in the published pipeline: a request without any is not guided. The guided
    prediction is as long as the conditional one at each token.

    Raises:
        ValueError: If the components do not fit each other.
    """

    autoencoder: ClassVar[type[Autoencoder]] = CausalAutoencoder
    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "transformer": "QwenImageTransformer2DModel",
        "vae": "AutoencoderKLQwenImage",
        "text_encoder": ("Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLTextModel"),
    }
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
        raise NotImplementedError

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

    @property
    def text_shape(self) -> TextShape:
        return TextShape(self.backbone.config.joint_attention_dim, ragged=True)

    def negatives(self, request: Request) -> Sequence[str | None] | None:
        return request.negatives if has_negatives(request) else None

    def negative_guidance(self, request: Request) -> Guidance | None:
        return required_guidance(request)

    def given(self, encoding: Encoding) -> Conditioning:
        """Arguments of the transformer: states with zeros for padding, and a mask if there is any."""
        known = encoding.known.to(encoding.states.device)
        context = encoding.states[:, : known.shape[1]]
        return {"context": context} if encoding.even else {"context": context * known[:, :, None], "mask": known}

    def condition(self, request: Request) -> Prompted:
        return replace(super().condition(request), keeps_length=self.patch)


class QwenImage(_QwenImage):
    """The components of a QwenImagePipeline checkpoint."""

    options: ClassVar[frozenset[str]] = frozenset({"max_sequence_length"}) | ENCODED

    @classmethod
    def prepare_text(cls, checkpoint: Checkpoint) -> tuple[PreparedEncoder, Callable[[], ChatText]]:
        text = ChatText.prepare(checkpoint, "Qwen2_5_VLTextModel", _TOKENIZER, padding_side="right")
        return text, lambda: ChatText.build(text)

    def exported(self) -> Exported:
        """What an exported folder says beside the networks."""
        return Exported("QwenImagePipeline", {"tokenizer": self.text.tokenizer})

    def encode_texts(self, texts: Sequence[Text], request: Request) -> Encoding:
        messages = [_DESCRIBE.format(text) for text, _ in texts]
        length = _BEFORE + request.text_tokens(_LONGEST, _USUAL)
        return unpadded(*self.text.encode(messages, length, (-1,), fill=False), start=_BEFORE)


class QwenImageEdit(_QwenImage):
    """The components of a QwenImageEditPipeline checkpoint, which changes a picture as the prompt says.

    The picture is resized to about a million pixels. The text encoder reads it with the prompt, and the transformer its
    latents as further tokens.
    """

    options: ClassVar[frozenset[str]] = frozenset({"prompt_embeds", "negative_embeds"})
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
        return fitted(self._opened(request)[0][-1], self.area)

    def condition(self, request: Request) -> Prompted:
        pictures = resized(self._opened(request), partial(fitted, area=self.area))
        edited = {
            f"edited{index}": encoded(self.vae, position).to(self.dtype)
            for index, position in enumerate(zip(*pictures, strict=True))
        }
        return super().condition(request).both(**edited)

    def encode(self, sides: Sides, request: Request) -> dict[str, Encoding]:
        """Encode prompts with the pictures of their samples."""
        pictures = resized(self._opened(request), partial(fitted, area=self.seen_area))
        pairs = [(text, row) for side in sides.values() for text, row in zip(side, pictures, strict=True)]
        texts = [self.template(len(row)).format(text) for text, row in pairs]
        states = unpadded(*self.text.encode_pictures(texts, [row for _, row in pairs]), start=_BEFORE_EDIT)
        count = request.samples
        return {name: states.rows(range(index * count, (index + 1) * count)) for index, name in enumerate(sides)}

    def template(self, pictures: int) -> str:
        """The text around a prompt with this number of pictures."""
        return _EDIT.format(_PICTURE + "{}")

    def _opened(self, request: Request) -> list[list[Any]]:
        """The pictures of each sample."""
        return opened(request.image, request.samples, several=self.several)


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
