"""A zoo of accelerators: wrong ones, each with its mistake and the law that catches it, and right ones."""

from . import decisions, estimates, inside, state
from .right import RIGHT
from .specimen import WRONG, Made, Specimen

__all__ = ["RIGHT", "WRONG", "Made", "Specimen", "decisions", "estimates", "inside", "state"]
