"""The transformer of Z-Image."""

from .config import ZImageConfig
from .network import ZImageTransformer

__all__ = ["ZImageConfig", "ZImageTransformer"]
