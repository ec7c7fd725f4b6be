"""The tiny autoencoder (TAESD), which decodes latents cheaply."""

from .config import TinyAutoencoderConfig
from .tiny_autoencoder import TinyAutoencoder

__all__ = ["TinyAutoencoder", "TinyAutoencoderConfig"]
