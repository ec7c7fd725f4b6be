"""Wan 2.1 and 2.2 that continue a picture: the transformer reads its latents, in 2.1 also its states by CLIP."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from sadaflow.models.causal_autoencoder import CausalAutoencoder
from sadaflow.models.wan import WanConfig, WanStages, WanTransformer

from ..loading.checkpoint import Checkpoint
from .image_encoder import ClipImage
from .prompt_encoder import T5Text
from .wan import Wan, prepare_parts

_IMAGE = "CLIPVisionModelWithProjection"


class WanImageToVideo(Wan):
    """The components of a WanImageToVideoPipeline checkpoint.

    Beside the latents the transformer reads a mask of the frames that are given, a channel for each frame of a latent
    frame, and the latents of a video of the picture and of grey frames. Wan 2.2 TI2V reads the latents of the picture
    in place of the first latent frame instead, see `Wan`.

    Raises:
        ValueError: If the components do not fit each other.
    """

    picture_needed: ClassVar[bool] = True

    def __init__(
        self,
        backbone: WanTransformer | WanStages,
        vae: CausalAutoencoder,
        text: T5Text,
        dtype: torch.dtype,
        expanded: bool = False,
        image: ClipImage | None = None,
    ) -> None:
        super().__init__(backbone, vae, text, dtype, expanded)
        self.image = image
        self.seen_side = None if image is None else image.side

    @classmethod
    def prepare(cls, checkpoint: Checkpoint) -> Callable[[], Self]:
        parts = prepare_parts(cls, checkpoint)
        config = checkpoint.read(WanConfig.from_dict, "transformer", "config.json")
        if config.image_dim is None:
            return lambda: cls(*parts())
        checkpoint.expect({"image_encoder": _IMAGE})
        image = ClipImage.prepare(checkpoint)
        if image.config.hidden_size != config.image_dim:
            raise ValueError(
                f"{checkpoint.root}: the image_encoder is {image.config.hidden_size} wide, the transformer's image_dim "
                f"is {config.image_dim}"
            )
        return lambda: cls(*parts(), ClipImage.build(image))

    @classmethod
    def beside_channels(cls, latent_channels: int, frames_per_latent: int) -> int:
        return latent_channels + frames_per_latent

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return super().networks if self.image is None else {**super().networks, "image_encoder": self.image.encoder}

    def see(self, pictures: Tensor) -> dict[str, Tensor]:
        """Arguments of the transformer for pictures (B, 3, side, side) in [0, 1]."""
        return {} if self.image is None else {"image": self.image.encode(pictures)}
