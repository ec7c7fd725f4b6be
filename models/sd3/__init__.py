"""The transformer of Stable Diffusion 3 and 3.5."""

from .config import SD3Config
from .network import SD3Transformer

__all__ = ["SD3Config", "SD3Transformer"]
