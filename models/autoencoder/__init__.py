"""The autoencoder of latent diffusion models."""

from .autoencoder import Autoencoder
from .config import AutoencoderConfig

__all__ = ["Autoencoder", "AutoencoderConfig"]
