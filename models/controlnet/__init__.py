"""ControlNets and the U-Net that they steer."""

from .config import ControlNetConfig
from .controlled import ControlledUNet
from .controlnet import ControlNet

__all__ = ["ControlNet", "ControlNetConfig", "ControlledUNet"]
