"""Backbones and autoencoders in torch, independent of solvers and accelerators, with one seam for acceleration."""

if not __name__.startswith("sadaflow."):
    raise ImportError("import this package as 'sadaflow.models'")

from .autoencoder.autoencoder import Autoencoder
from .autoencoder.config import AutoencoderConfig
from .compiled import compile_regions, compile_whole
from .controlnet.config import ControlNetConfig
from .controlnet.controlled import ControlledUNet
from .controlnet.controlnet import ControlNet
from .conv import kept_layouts, lay_out_channels_last
from .flux.config import FluxConfig
from .flux.flux import FluxTransformer
from .seam import Seam, Site, call_through
from .tiny_autoencoder.config import TinyAutoencoderConfig
from .tiny_autoencoder.tiny_autoencoder import TinyAutoencoder
from .unet.config import UNetConfig
from .unet.unet import UNet

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "ControlNet",
    "ControlNetConfig",
    "ControlledUNet",
    "FluxConfig",
    "FluxTransformer",
    "Seam",
    "Site",
    "TinyAutoencoder",
    "TinyAutoencoderConfig",
    "UNet",
    "UNetConfig",
    "call_through",
    "compile_regions",
    "compile_whole",
    "kept_layouts",
    "lay_out_channels_last",
]
