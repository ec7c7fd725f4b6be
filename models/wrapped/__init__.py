"""Gives any torch network sites for a seam, by the names of its submodules."""

from .network import SeamedNetwork
from .settings import Seams

__all__ = ["SeamedNetwork", "Seams"]
