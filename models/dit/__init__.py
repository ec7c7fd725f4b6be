"""The class-conditional diffusion transformer DiT."""

from .config import DiTConfig
from .dit import DiT

__all__ = ["DiT", "DiTConfig"]
