"""The `sadaflow` command."""

from .entry import main

__all__ = ["main"]
