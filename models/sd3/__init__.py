"""The transformer of Stable Diffusion 3 and 3.5, and its ControlNets."""

from .config import SD3Config
from .controlnet import SD3ControlNet
from .controlnet_config import SD3ControlNetConfig
from .network import SD3Transformer

__all__ = ["SD3Config", "SD3ControlNet", "SD3ControlNetConfig", "SD3Transformer"]
