"""A loaded checkpoint, its arguments, and the call that samples it."""

from .pipeline import Output, Pipeline

__all__ = ["Output", "Pipeline"]
