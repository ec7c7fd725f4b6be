"""Backbones and autoencoders in torch, independent of solvers and accelerators, with one seam for acceleration."""

if not __name__.startswith("sadaflow."):
    raise ImportError("import this package as 'sadaflow.models'")

from .autoencoder.autoencoder import Autoencoder
from .autoencoder.config import AutoencoderConfig
from .compiled import compile_regions, compile_whole
from .controlnet.config import ControlNetConfig
from .controlnet.controlled import ControlledUNet
from .controlnet.controlnet import ControlNet
from .controlnet.steered import SteeredTransformer
from .conv import kept_layouts, lay_out_channels_last
from .dit.config import DiTConfig
from .dit.dit import DiT
from .flux.config import FluxConfig
from .flux.flux import FluxTransformer
from .seam import Seam, Site, call_through
from .tiny_autoencoder.config import TinyAutoencoderConfig
from .tiny_autoencoder.tiny_autoencoder import TinyAutoencoder
from .unet.config import UNetConfig
from .unet.config_2d import unet_2d_config
from .unet.unet import UNet
from .wrapped.network import SeamedNetwork
from .wrapped.settings import Seams

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "ControlNet",
    "ControlNetConfig",
    "ControlledUNet",
    "DiT",
    "DiTConfig",
    "FluxConfig",
    "FluxTransformer",
    "Seam",
    "SeamedNetwork",
    "Seams",
    "Site",
    "SteeredTransformer",
    "TinyAutoencoder",
    "TinyAutoencoderConfig",
    "UNet",
    "UNetConfig",
    "call_through",
    "compile_regions",
    "compile_whole",
    "kept_layouts",
    "lay_out_channels_last",
    "unet_2d_config",
]
