"""What families share that sample the latents of an autoencoder by a transformer."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sadaflow.models import Autoencoder

from .base import decode_images
from .prompt_encoder import ClipText, T5Text


class LatentTransformer:
    """Base class of these families; `adaptable` of a subclass lists its networks beside the autoencoder."""

    vae: Autoencoder

    @classmethod
    def scheduler_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler config unchanged, as the published pipelines use it."""
        return dict(config)

    @property
    def latent_channels(self) -> int:
        return self.vae.config.latent_channels

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        raise NotImplementedError

    @property
    def prompt_encoders(self) -> Mapping[str, ClipText | T5Text]:
        return {}

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {**self.adaptable, "vae": self.vae}

    def decode(self, latents: Tensor) -> Tensor:
        return decode_images(self.vae, latents)
