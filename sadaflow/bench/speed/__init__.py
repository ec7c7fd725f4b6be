"""Measures seconds and bytes, side by side with Diffusers on the same checkpoint."""

from .command import run_speed
from .settings import MEASURES, MODES, Speed

__all__ = ["MEASURES", "MODES", "Speed", "run_speed"]
