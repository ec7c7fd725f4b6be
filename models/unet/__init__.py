"""The U-Net of Stable Diffusion and its relatives."""

from .config import UNetConfig
from .unet import UNet

__all__ = ["UNet", "UNetConfig"]
