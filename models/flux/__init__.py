"""The transformer of Flux.1, and its ControlNets."""

from .config import FluxConfig
from .controlnet import FluxControlNet
from .controlnet_config import FluxControlNetConfig
from .flux import FluxTransformer

__all__ = ["FluxConfig", "FluxControlNet", "FluxControlNetConfig", "FluxTransformer"]
