"""The transformer of Flux.1."""

from .config import FluxConfig
from .flux import FluxTransformer

__all__ = ["FluxConfig", "FluxTransformer"]
