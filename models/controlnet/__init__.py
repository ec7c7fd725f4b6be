"""ControlNets of U-Nets, and the networks that ControlNets steer."""

from .config import ControlNetConfig
from .controlled import ControlledUNet
from .controlnet import ControlNet
from .steered import SteeredTransformer

__all__ = ["ControlNet", "ControlNetConfig", "ControlledUNet", "SteeredTransformer"]
