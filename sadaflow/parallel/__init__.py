"""Sampling on several devices: the guidance branches on different ones, and a transformer's tokens divided."""

from .mesh import Parallel

__all__ = ["Parallel"]
