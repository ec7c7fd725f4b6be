"""Wan 2.1 and 2.2 (Wan Team 2025, arXiv 2503.20314): video from text. UMT5, transformers, a causal autoencoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sadaflow.models import Autoencoder
from sadaflow.models.causal_autoencoder import CausalAutoencoder, CausalAutoencoderConfig
from sadaflow.models.wan import WanConfig, WanStages, WanTransformer
from sadaflow.models.wan.original import from_original

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from ..loading.sampling_defaults import Recommended
from .base import Prompted, decode_images
from .hooks import Builders, ReadJson
from .latent_transformer import LatentTransformer
from .prompt_cleaning import cleaned
from .prompt_encoder import ClipText, T5Text
from .request import Request
from .text_encoding import Encoding
from .text_family import BLENDED, ENCODED, Text, TextFamily, TextShape
from .unet import FIRST_FRAME

_TEXT = "UMT5EncoderModel"
_TRAINED_STEPS = 1000


class Wan(LatentTransformer, TextFamily):
    """The components of a WanPipeline checkpoint.

    Wan 2.2 A14B has a second transformer, which takes over where the timestep falls below `boundary_ratio` of 1000.
    Wan 2.2 TI2V also continues a picture, whose latents take the place of the first latent frame.

    Args:
        backbone: The transformer or transformers.
        vae: The autoencoder.
        text: The text encoder.
        dtype: Number format of the transformer.
        expanded: Whether tokens have times of their own (`expand_timesteps` of model_index.json, Wan 2.2 TI2V).

    Raises:
        ValueError: If the components do not fit each other.
    """

    autoencoder: ClassVar[type[Autoencoder]] = CausalAutoencoder
    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "transformer": "WanTransformer3DModel",
        "vae": "AutoencoderKLWan",
        "text_encoder": _TEXT,
    }
    builders: ClassVar[Builders] = {
        "transformer": ("WanTransformer3DModel", lambda config: WanTransformer(WanConfig.from_dict(config))),
        "vae": ("AutoencoderKLWan", lambda config: CausalAutoencoder(CausalAutoencoderConfig.from_dict(config))),
    }
    default_guidance: ClassVar[float] = 5.0
    default_size: tuple[int, int] = (480, 832)
    default_frames: int = 81
    frames_per_second: int = 16
    picture_needed: ClassVar[bool] = False
    seen_side: int | None = None
    original = staticmethod(from_original)

    def __init__(
        self,
        backbone: WanTransformer | WanStages,
        vae: CausalAutoencoder,
        text: T5Text,
        dtype: torch.dtype,
        expanded: bool = False,
    ) -> None:
        _check_widths(type(self), expanded, backbone.config, vae.config, text.encoder.config)
        self.replaces_first = expanded
        self.reads = FIRST_FRAME if expanded or self.picture_needed else None
        self.picture_optional = not self.picture_needed
        if expanded:
            self.default_size, self.default_frames, self.frames_per_second = (704, 1280), 121, 24
        self.backbone = backbone
        self.vae = vae
        self.frames_per_latent = vae.config.frames_per_latent
        self.text = text
        self.dtype = dtype

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        parts = prepare_parts(cls, checkpoint)
        return lambda: cls(*parts())

    @classmethod
    def beside_channels(cls, latent_channels: int, frames_per_latent: int) -> int:
        """Channels that the transformer reads beside the latents, unless tokens have times of their own."""
        return 0

    def see(self, pictures: Tensor) -> dict[str, Tensor]:
        """Arguments of the transformer for pictures (B, 3, side, side) in [0, 1], which an image encoder sees: none."""
        return {}

    @classmethod
    def recommended(cls, read: ReadJson) -> Recommended:
        """What the authors recommend: 50 steps of UniPC with guidance 5."""
        return Recommended(cls.default_guidance, 50, "unipc")

    @property
    def options(self) -> frozenset[str]:
        own = {"late_guidance"} if isinstance(self.backbone, WanStages) else set()
        return frozenset({"max_sequence_length", "num_frames", *own}) | ENCODED | BLENDED

    @property
    def patch(self) -> int:
        return self.backbone.config.patch_size[1]

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        if isinstance(self.backbone, WanStages):
            transformers = {"transformer": self.backbone.high, "transformer_2": self.backbone.low}
        else:
            transformers = {"transformer": self.backbone}
        return {**transformers, "text_encoder": self.text.encoder}

    @property
    def prompt_encoders(self) -> Mapping[str, ClipText | T5Text]:
        return {"text_encoder": self.text}

    @property
    def text_shape(self) -> TextShape:
        return TextShape(self.text.encoder.config.d_model)

    def condition(self, request: Request) -> Prompted:
        prompted = super().condition(request)
        if request.late_guidance is None or not isinstance(self.backbone, WanStages):
            return prompted
        return replace(prompted, late_guidance=(self.backbone.boundary, request.late_guidance))

    def encode_texts(self, texts: Sequence[Text], request: Request) -> Encoding:
        """Encode texts. States of positions without a token are zero, and the transformer attends to them too."""
        length = request.text_tokens(T5Text.longest)
        states, known = self.text.encode_masked([cleaned(text or "") for text, _ in texts], length)
        return Encoding(states * known[..., None].to(states))

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, T, h, w) in the backbone's scaling to videos (B, frames, 3, H, W) in [0, 1]."""
        return decode_images(self.vae, latents).transpose(1, 2)


Parts = tuple[WanTransformer | WanStages, CausalAutoencoder, T5Text, torch.dtype, bool]


def prepare_parts(family: type[Wan], checkpoint: Checkpoint) -> Callable[[], Parts]:
    """Read and check the configs of what all pipelines of Wan have.

    Args:
        family: The family.
        checkpoint: The checkpoint.

    Returns:
        A function that builds the networks; see `Family.prepare`, also for the errors.
    """
    transformer = checkpoint.read(WanConfig.from_dict, "transformer", "config.json")
    vae = checkpoint.read(CausalAutoencoderConfig.from_dict, "vae", "config.json")
    text = T5Text.prepare(checkpoint, "", _TEXT)
    expanded = bool(checkpoint.json("model_index.json").get("expand_timesteps"))
    with naming(checkpoint.root):
        _check_widths(family, expanded, transformer, vae, text.config)
    boundary = _boundary(checkpoint, transformer)
    return lambda: (
        _backbone(checkpoint, transformer, boundary),
        checkpoint.network("vae", lambda: CausalAutoencoder(vae)),
        T5Text.build(text),
        checkpoint.dtype,
        expanded,
    )


def _boundary(checkpoint: Checkpoint, first: WanConfig) -> float | None:
    """The timestep at which the second transformer takes over; None if there is none.

    Raises:
        ValueError: If model_index.json has only one of the two, or if the transformers differ.
    """
    index, path = checkpoint.json("model_index.json"), checkpoint.path("", "model_index.json")
    ratio, second = index.get("boundary_ratio"), index.get("transformer_2") not in (None, [None, None])
    if not second and ratio is None:
        return None
    if not second or not isinstance(ratio, float) or not 0 < ratio < 1:
        raise ValueError(
            f"{path}: boundary_ratio is {ratio!r}, and transformer_2 is {'there' if second else 'missing'}; a second "
            "transformer needs a boundary_ratio between 0 and 1, and one needs the other"
        )
    checkpoint.expect({"transformer_2": "WanTransformer3DModel"})
    if checkpoint.read(WanConfig.from_dict, "transformer_2", "config.json") != first:
        raise ValueError(f"{checkpoint.root}: the configs of transformer and transformer_2 differ")
    return float(ratio) * _TRAINED_STEPS


def _backbone(checkpoint: Checkpoint, config: WanConfig, boundary: float | None) -> WanTransformer | WanStages:
    """Build the transformers, without their weights."""
    high = checkpoint.network("transformer", lambda: WanTransformer(config))
    if boundary is None:
        return high
    return WanStages(high, checkpoint.network("transformer_2", lambda: WanTransformer(config)), boundary)


def _check_widths(
    family: type[Wan], expanded: bool, transformer: WanConfig, vae: CausalAutoencoderConfig, text: Any
) -> None:
    """Raise ValueError if components of these configs do not fit each other."""
    latents = transformer.predicted_channels
    read = latents + (0 if expanded else family.beside_channels(latents, vae.frames_per_latent))
    for label, found, field, expected in (
        ("text_encoder is", text.d_model, "text_dim", transformer.text_dim),
        ("vae's latents are", vae.latent_channels, "out_channels", latents),
        ("input of this pipeline is", read, "in_channels", transformer.in_channels),
    ):
        if found != expected:
            raise ValueError(
                f"the {label} {found} wide, the transformer's {field} is {expected} (transformer/config.json, and "
                "config.json in text_encoder/ and vae/)"
            )
