"""Measures seconds and bytes, side by side with Diffusers on the same checkpoint."""

from .command import MEASURES, MODES, Speed, run_speed

__all__ = ["MEASURES", "MODES", "Speed", "run_speed"]
