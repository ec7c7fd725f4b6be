"""Seconds and bytes, side by side with Diffusers on the same checkpoint."""

from .command import MEASURES, Speed, run_speed

__all__ = ["MEASURES", "Speed", "run_speed"]
