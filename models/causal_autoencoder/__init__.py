"""The causal video autoencoder of Qwen-Image and Wan 2.1; an image is a video of one frame."""

from .autoencoder import CausalAutoencoder
from .config import CausalAutoencoderConfig

__all__ = ["CausalAutoencoder", "CausalAutoencoderConfig"]
