"""A page to explore runs with: a slider over the steps, in one HTML file that needs no network."""

from .page import explore_page
from .run import ExploredRun

__all__ = ["ExploredRun", "explore_page"]
