"""The tiny autoencoder (TAESD), which decodes latents cheaply."""

from .config import TinyAutoencoderConfig
from .tiny_autoencoder import TinyAutoencoder
from .tiny_vae import TinyVae

__all__ = ["TinyAutoencoder", "TinyAutoencoderConfig", "TinyVae"]
