"""The transformer of Chroma."""

from .config import ChromaConfig
from .network import ChromaTransformer

__all__ = ["ChromaConfig", "ChromaTransformer"]
