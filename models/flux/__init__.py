"""The transformer of Flux.1."""

from .flux import FluxConfig, FluxTransformer

__all__ = ["FluxConfig", "FluxTransformer"]
