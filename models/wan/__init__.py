"""The video transformer of Wan 2.1 and 2.2."""

from .config import WanConfig
from .network import WanTransformer

__all__ = ["WanConfig", "WanTransformer"]
