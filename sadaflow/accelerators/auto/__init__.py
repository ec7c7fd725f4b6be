"""Auto: skips under error control, and replays steps whose error was too large."""

from .auto import Auto

__all__ = ["Auto"]
