"""Accelerators by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from .adaptive_diffusion import AdaptiveDiffusion
from .auto import Auto
from .base import Accelerator
from .easycache import EasyCache
from .released import ReleasedSADA
from .sada import SADA
from .seacache import SeaCache
from .uniform import Uniform

ACCELERATORS: Mapping[str, Callable[[], Accelerator]] = MappingProxyType(
    {
        "auto": Auto,
        "sada": SADA,
        "sada-released": ReleasedSADA,
        "uniform": Uniform,
        "adaptive-diffusion": AdaptiveDiffusion,
        "easycache": EasyCache,
        "seacache": SeaCache,
    }
)

# The two readings of SADA, as those who compare them call them.
ALIASES: Mapping[str, str] = MappingProxyType({"paper": "sada", "sada-paper": "sada", "released": "sada-released"})


def make_accelerator(name: str) -> Accelerator:
    """The accelerator `name` with its default settings; ValueError listing the known ones."""
    name = ALIASES.get(name, name)
    if name not in ACCELERATORS:
        raise ValueError(f"unknown accelerator {name!r}; known: {', '.join(sorted(ACCELERATORS))}")
    return ACCELERATORS[name]()
