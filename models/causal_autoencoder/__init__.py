"""The causal video autoencoder of Qwen-Image, Wan 2.1 and Wan 2.2 TI2V; an image is a video of one frame."""

from .autoencoder import CausalAutoencoder
from .config import CausalAutoencoderConfig

__all__ = ["CausalAutoencoder", "CausalAutoencoderConfig"]
