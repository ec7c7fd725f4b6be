"""Encodes pictures with the image half of CLIP by `transformers` (an extra, imported where used)."""

from typing import Any, Final, Self

import torch
from torch import Tensor

from ..loading.checkpoint import Checkpoint
from ..loading.text_encoder import PreparedEncoder, prepare_encoder
from .prompt_encoder import input_device

_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_STD: Final = (0.26862954, 0.26130258, 0.27577711)


class ClipImage:
    """The image half of CLIP, whose last states but one condition a network.

    Attributes:
        encoder: The `transformers` model.
        side: Height and width of the pictures that it reads.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.side = int(encoder.config.image_size)

    @staticmethod
    def prepare(checkpoint: Checkpoint) -> PreparedEncoder:
        """Read and check the config of the encoder, without the weights; see `prepare_encoder`."""
        return prepare_encoder(checkpoint, "image_encoder", "CLIPVisionModelWithProjection")

    @classmethod
    def build(cls, encoder: PreparedEncoder) -> Self:
        """Build a prepared encoder; raises ValueError if the stored tensors do not fit the config."""
        return cls(encoder.build())

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Encode pictures.

        Args:
            pictures: RGB (B, 3, side, side) in [0, 1].

        Returns:
            States (B, tokens, width) before the last layer.
        """
        mean, std = (pictures.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        weight = next(self.encoder.parameters())
        pixels = ((pictures - mean) / std).to(input_device(self.encoder), weight.dtype)
        return self.encoder(pixels, output_hidden_states=True).hidden_states[-2]
