"""The transformer and the autoencoder of FLUX.2."""

from .autoencoder import Flux2Autoencoder, Flux2AutoencoderConfig
from .config import Flux2Config
from .network import Flux2Transformer

__all__ = ["Flux2Autoencoder", "Flux2AutoencoderConfig", "Flux2Config", "Flux2Transformer"]
