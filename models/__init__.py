"""Backbones and autoencoders: torch only. They know no solver and no accelerator, and offer one seam."""

if not __name__.startswith("sadaflow."):
    raise ImportError("import this package as 'sadaflow.models'")

from .autoencoder import Autoencoder, AutoencoderConfig
from .seam import Seam, Site, call_through
from .unet import UNet, UNetConfig

__all__ = ["Autoencoder", "AutoencoderConfig", "Seam", "Site", "UNet", "UNetConfig", "call_through"]
