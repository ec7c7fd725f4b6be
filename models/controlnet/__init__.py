"""ControlNets and the U-Net that they steer."""

from .controlnet import ControlledUNet, ControlNet, ControlNetConfig

__all__ = ["ControlNet", "ControlNetConfig", "ControlledUNet"]
