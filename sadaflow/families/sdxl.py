"""Stable Diffusion XL, base and refiner (Podell et al. 2023, arXiv 2307.01952)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sadaflow.models import Autoencoder, UNet, UNetConfig

from ..loading.checkpoint import Checkpoint
from ..loading.json_file import naming
from .base import Conditioning, build_autoencoder
from .clip_unet import ClipUNet
from .exported import ABSENT, Exported
from .prompt_encoder import Batch, ClipText, input_device
from .request import Request
from .text_encoding import Encoding, joined, stacked
from .text_family import POOLED, Text, TextShape
from .unet import LatentUNet, read_configs

# Published defaults of the aesthetic scores, which condition the refiner in place of the target size.
_AESTHETIC, _NEGATIVE_AESTHETIC = 6.0, 2.5
_SIZES = frozenset({"original_size", "crop", "negative_original_size", "negative_crop"})
_TARGETS = frozenset({"target_size", "negative_target_size"})
_SCORES = frozenset({"aesthetic_score", "negative_aesthetic_score"})


class StableDiffusionXL(ClipUNet):
    """The components of a StableDiffusionXLPipeline checkpoint, or of the refiner, which lacks the first encoder.

    The network is conditioned on the original size and the crop of the training picture (section 2.2 of the paper). By
    default they describe a picture that was neither rescaled nor cropped.

    Args:
        backbone: The U-Net.
        vae: The autoencoder.
        texts: The text encoders; the last one gives the pooled state.
        dtype: Dtype of the networks.
        zero_negative: Whether a missing negative prompt is encoded as zeros.
        aesthetic: Whether the U-Net reads an aesthetic score in place of the target size (refiner).

    Raises:
        ValueError: If the components do not fit each other.
    """

    components: ClassVar[dict[str, str | tuple[str, ...]]] = {
        **LatentUNet.components,
        "text_encoder_2": "CLIPTextModelWithProjection",
    }
    default_guidance: ClassVar[float] = 5.0

    def __init__(
        self,
        backbone: UNet,
        vae: Autoencoder,
        texts: Sequence[ClipText],
        dtype: torch.dtype,
        *,
        zero_negative: bool,
        aesthetic: bool,
    ) -> None:
        super().__init__(backbone, vae, dtype)
        self.texts = tuple(texts)
        self.zero_negative = zero_negative
        self.aesthetic = aesthetic
        _check_widths(backbone.config, [text.encoder.config for text in texts], aesthetic)

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        index = checkpoint.json("model_index.json")
        first = index.get("text_encoder")
        aesthetic = bool(index.get("requires_aesthetics_score", False))
        unet, vae = read_configs(checkpoint, statistics=True)
        texts = []
        if first not in (None, [None, None]):
            checkpoint.expect({"text_encoder": "CLIPTextModel"})
            texts.append(ClipText.prepare(checkpoint))
        texts.append(ClipText.prepare(checkpoint, "_2", "CLIPTextModelWithProjection", pooled=True))
        with naming(checkpoint.root):
            _check_widths(unet, [text.config for text in texts], aesthetic)
        return lambda: cls(
            checkpoint.network("unet", lambda: UNet(unet)),
            build_autoencoder(checkpoint, vae),
            [ClipText.build(text) for text in texts],
            checkpoint.dtype,
            zero_negative=bool(index.get("force_zeros_for_empty_prompt", True)),
            aesthetic=aesthetic,
        )

    @property
    def options(self) -> frozenset[str]:
        return super().options | POOLED | _SIZES | (_SCORES if self.aesthetic else _TARGETS)

    @property
    def clips(self) -> Mapping[str, ClipText]:
        names = ("text_encoder", "text_encoder_2")[-len(self.texts) :]
        return dict(zip(names, self.texts, strict=True))

    def exported(self) -> Exported | None:
        """What an exported folder says beside the networks; None if the network reads what no pipeline supplies."""
        special = self.edited_by("StableDiffusionXL")
        if special is None and self.needs is not None:
            return None
        fields: dict[str, Any] = {"force_zeros_for_empty_prompt": self.zero_negative}
        if self.aesthetic:
            fields["requires_aesthetics_score"] = True
        if len(self.texts) == 1:
            fields |= {"text_encoder": ABSENT, "tokenizer": ABSENT}
        tokenizers = {name.replace("text_encoder", "tokenizer"): text for name, text in self.prompt_encoders.items()}
        return Exported(
            special or f"StableDiffusionXL{'Img2Img' if self.aesthetic else ''}Pipeline",
            {name: text.tokenizer for name, text in tokenizers.items()},
            fields,
        )

    @property
    def text_shape(self) -> TextShape:
        width = sum(text.encoder.config.hidden_size for text in self.texts)
        return TextShape(width, self.texts[-1].encoder.config.projection_dim)

    def run(self, text: ClipText, prompts: Sequence[str] | Batch) -> tuple[Tensor, Tensor | None]:
        return text.penultimate(prompts)

    def encode_texts(self, texts: Sequence[Text], request: Request) -> Encoding:
        """Encode texts; a missing negative prompt is zeros if `zero_negative`."""
        zeros = [row for row, (text, _) in enumerate(texts) if text is None and self.zero_negative]
        read = [row for row in range(len(texts)) if row not in zeros]
        parts = [self._read_all([(texts[row][0] or "", texts[row][1]) for row in read], request)] if read else []
        parts += [self._zeros([texts[row][1] for row in zeros])] if zeros else []
        order = [*read, *zeros]
        return joined(parts).rows([order.index(row) for row in range(len(texts))])

    def _read_all(self, texts: Sequence[tuple[str, int]], request: Request) -> Encoding:
        """States of all text encoders side by side, and pooled ones of the last."""
        encoded = [self.read(text, texts, request) for text in self.texts]
        states = torch.cat([part.states for part in encoded], dim=-1)
        return Encoding(states, encoded[-1].pooled, encoded[-1].lengths)

    def _zeros(self, windows: Sequence[int]) -> Encoding:
        """Zeros in place of prompts that have so many windows."""
        shape, window = self.text_shape, self.texts[-1].length
        device = input_device(self.texts[-1].encoder)
        blank = torch.zeros(max(windows) * window, shape.width, dtype=self.dtype, device=device)
        assert shape.pooled is not None
        return stacked([blank[: count * window] for count in windows], blank.new_zeros(len(windows), shape.pooled))

    def beside_text(self, request: Request, like: Tensor, *, negative: bool) -> Conditioning:
        further = super().beside_text(request, like, negative=negative)
        return {**further, "time_ids": self._time_ids(request, like.device, negative=negative)}

    def _time_ids(self, request: Request, device: torch.device, *, negative: bool) -> Tensor:
        """Original size, crop corner and target size (or the refiner's aesthetic score) as (B, 6) or (B, 5).

        The negative branch has the values of the conditional branch unless the request gives others.
        """
        size = request.size
        original, crop, target = request.original_size, request.crop, request.target_size
        score, published = request.aesthetic_score, _AESTHETIC
        if negative:
            original = request.negative_original_size or original
            crop = request.negative_crop or crop
            target = request.negative_target_size or target
            score, published = request.negative_aesthetic_score, _NEGATIVE_AESTHETIC
        last = [published if score is None else score] if self.aesthetic else target or size
        ids = [*(original or size), *(crop or (0, 0)), *last]
        row = torch.tensor(ids, dtype=torch.float32, device=device)
        return row.expand(len(request.prompts), -1)


def _check_widths(unet: UNetConfig, texts: Sequence[Any], aesthetic: bool) -> None:
    """Raise ValueError if text encoders of these configs do not fit the U-Net."""
    width = sum(text.hidden_size for text in texts)
    if width != unet.cross_attention_dim[0]:
        raise ValueError(
            f"the text encoders are {width} wide together, the U-Net's cross_attention_dim is "
            f"{unet.cross_attention_dim[0]} (text_encoder/config.json, text_encoder_2/config.json, unet/config.json)"
        )
    if unet.added_width is None or unet.time_id_width is None:
        raise ValueError("unet/config.json: the U-Net of an XL checkpoint needs addition_embed_type='text_time'")
    pooled, ids = texts[-1].projection_dim, 5 if aesthetic else 6
    if unet.added_width != pooled + ids * unet.time_id_width:
        raise ValueError(
            f"the U-Net's projection_class_embeddings_input_dim is {unet.added_width}, but pooled text of "
            f"{pooled} and {ids} time ids (requires_aesthetics_score={aesthetic} in model_index.json) of "
            f"{unet.time_id_width} (addition_time_embed_dim) need {pooled + ids * unet.time_id_width} "
            "(unet/config.json, text_encoder_2/config.json, model_index.json)"
        )
