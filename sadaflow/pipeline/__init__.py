"""A loaded checkpoint, its arguments, and the call that samples it."""

from .output import Output
from .pipeline import Pipeline

__all__ = ["Output", "Pipeline"]
