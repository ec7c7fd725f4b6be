"""The video transformer of Wan 2.1 and 2.2."""

from .config import WanConfig
from .network import WanTransformer
from .stages import WanStages

__all__ = ["WanConfig", "WanStages", "WanTransformer"]
