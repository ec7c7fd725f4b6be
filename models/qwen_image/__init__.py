"""Qwen-Image (Qwen team 2025, arXiv 2508.02324)."""

from .config import QwenImageConfig
from .network import QwenImageTransformer

__all__ = ["QwenImageConfig", "QwenImageTransformer"]
