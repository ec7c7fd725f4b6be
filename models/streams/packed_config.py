"""Architectures of transformers whose tokens are patches of latents."""

from ..json_config import HeadsConfig
from .packed import PATCH


class PackedConfig(HeadsConfig):
    """Base class of their configs.

    Attributes:
        in_channels: channels of a token, those of the latents at each position of a patch.
    """

    in_channels: int

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.in_channels // PATCH**2
