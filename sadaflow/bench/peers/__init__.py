"""Measures the peers' own packages, through Diffusers' pipeline, beside the accelerators of this library."""

from .command import run_peers
from .settings import Peers

__all__ = ["Peers", "run_peers"]
