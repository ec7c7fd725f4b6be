"""The autoencoder of latent diffusion models."""

from .autoencoder import Autoencoder, AutoencoderConfig

__all__ = ["Autoencoder", "AutoencoderConfig"]
