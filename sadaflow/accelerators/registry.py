"""Accelerators by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from .adaptive_diffusion import AdaptiveDiffusion
from .auto import Auto
from .base import Accelerator
from .deepcache import DeepCache
from .easycache import EasyCache
from .first_block import FirstBlock
from .magcache import MagCache
from .released import ReleasedSADA
from .sada import SADA
from .seacache import SeaCache
from .taylorseer import TaylorSeer
from .teacache import TeaCache
from .uniform import Uniform

ACCELERATORS: Mapping[str, Callable[[], Accelerator]] = MappingProxyType(
    {
        "adaptive-diffusion": AdaptiveDiffusion,
        "auto": Auto,
        "deepcache": DeepCache,
        "easycache": EasyCache,
        "first-block": FirstBlock,
        "magcache": MagCache,
        "sada": SADA,
        "sada-released": ReleasedSADA,
        "seacache": SeaCache,
        "taylorseer": TaylorSeer,
        "teacache": TeaCache,
        "uniform": Uniform,
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
