"""Accelerators by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from .auto.auto import Auto
from .base import Accelerator
from .caching.dbcache import DBCache
from .caching.deepcache import DeepCache
from .caching.dicache import DiCache
from .caching.first_block import FirstBlock
from .caching.foca import FoCa
from .caching.fora import Fora
from .caching.freqca import FreqCa
from .caching.hicache import HiCache
from .caching.magcache import MagCache
from .caching.taylorseer import TaylorSeer
from .caching.teacache import TeaCache
from .combined import Combined
from .sada.released import ReleasedSADA
from .sada.sada import SADA
from .skipping.adaptive_diffusion import AdaptiveDiffusion
from .skipping.easycache import EasyCache
from .skipping.faster_guidance import FasterGuidance
from .skipping.guidance import Guidance
from .skipping.meancache import MeanCache
from .skipping.schedule import Schedule
from .skipping.seacache import SeaCache
from .skipping.spectrum import Spectrum
from .skipping.uniform import Uniform
from .skipping.zeus import Zeus

ACCELERATORS: Mapping[str, Callable[[], Accelerator]] = MappingProxyType(
    {
        "adaptive-diffusion": AdaptiveDiffusion,
        "auto": Auto,
        "dbcache": DBCache,
        "deepcache": DeepCache,
        "dicache": DiCache,
        "easycache": EasyCache,
        "faster-guidance": FasterGuidance,
        "first-block": FirstBlock,
        "foca": FoCa,
        "fora": Fora,
        "freqca": FreqCa,
        "guidance": Guidance,
        "hicache": HiCache,
        "magcache": MagCache,
        "meancache": MeanCache,
        "sada": SADA,
        "sada-released": ReleasedSADA,
        "schedule": Schedule,
        "seacache": SeaCache,
        "spectrum": Spectrum,
        "taylorseer": TaylorSeer,
        "teacache": TeaCache,
        "uniform": Uniform,
        "zeus": Zeus,
    }
)

# Other names for the two readings of SADA: that of the paper and that of the published code.
ALIASES: Mapping[str, str] = MappingProxyType({"paper": "sada", "sada-paper": "sada", "released": "sada-released"})


def make_accelerator(name: str) -> Accelerator:
    """Makes an accelerator with its default settings.

    Args:
        name: A key of `ACCELERATORS`, or two of them joined by "+" (`Combined`): the first decides which steps are
            evaluated, the second how, as in "uniform+guidance".

    Raises:
        ValueError: if the name is unknown, with the known names.
    """
    parts = name.split("+")
    if len(parts) > 2:
        raise ValueError(f"accelerator {name!r} names {len(parts)}; two can be combined")
    made = [_single(part) for part in parts]
    return made[0] if len(made) == 1 else Combined(*made)


def _single(name: str) -> Accelerator:
    name = ALIASES.get(name, name)
    if name not in ACCELERATORS:
        raise ValueError(f"unknown accelerator {name!r}; known: {', '.join(sorted(ACCELERATORS))}")
    return ACCELERATORS[name]()
