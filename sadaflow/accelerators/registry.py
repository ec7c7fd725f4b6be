"""Accelerators by name."""

import inspect
import reprlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from sadaflow.solvers.names.locate import summary
from sadaflow.solvers.names.registry import Kind, Registry
from sadaflow.solvers.names.settings import known_settings, name_of
from sadaflow.solvers.names.text import read_named, split_sum

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
from .caching.speca import SpeCa
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

_BUILT_IN: Mapping[str, Callable[..., Accelerator]] = MappingProxyType(
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
        "speca": SpeCa,
        "spectrum": Spectrum,
        "taylorseer": TaylorSeer,
        "teacache": TeaCache,
        "uniform": Uniform,
        "zeus": Zeus,
    }
)

# Other names for the two readings of SADA: that of the paper and that of the published code.
ALIASES: Mapping[str, str] = MappingProxyType({"paper": "sada", "sada-paper": "sada", "released": "sada-released"})

_RESERVED: Final = {
    "none": "the name of sampling without an accelerator",
    **dict.fromkeys(("plain", "fewer-steps", "sub-grid"), "the name of a baseline in suites"),
}


def _maker_of(label: str, made: Any) -> Callable[..., Accelerator]:
    """`made`, if it is a class of accelerators or a function; raises ValueError, beginning with `label`, if not."""
    if not callable(made):
        raise ValueError(
            f"{label} is {reprlib.repr(made)}, which cannot be called: give the accelerator's class, or a function "
            "that makes it"
        )
    if isinstance(made, type) and not callable(getattr(made, "begin", None)):
        raise ValueError(f"{label}: the class {made.__name__} is not an accelerator, it lacks begin")
    if inspect.isabstract(made):
        raise ValueError(f"{label}: the class {name_of(made)} lacks {', '.join(sorted(made.__abstractmethods__))}")
    maker: Callable[..., Accelerator] = made
    return maker


REGISTRY: Final = Registry(Kind("accelerator", "sadaflow.accelerators", _maker_of, _RESERVED, ALIASES), _BUILT_IN)
"""All accelerators by name; changed by `register_accelerator` alone."""

ACCELERATORS: Mapping[str, Callable[..., Accelerator]] = MappingProxyType(REGISTRY)
"""Read-only view of all accelerators by name: built in, registered, and those of installed packages."""


def register_accelerator(name: str, make: Callable[..., Accelerator], *, replace: bool = False) -> None:
    """Makes an accelerator known by name, wherever the name of an accelerator is taken.

    Args:
        name: Letters, digits, ".", "-" and "_", beginning with a letter.
        make: A class, or a function, that makes the settings: `make(**settings)`.
        replace: Whether another accelerator that was registered under the name is replaced.

    Raises:
        ValueError: If the name is taken or malformed, or if `make` cannot make an accelerator.
    """
    REGISTRY.register(name, make, replace=replace)


def make_accelerator(name: str, **settings: Any) -> Accelerator:
    """Makes an accelerator.

    Args:
        name: A key of `ACCELERATORS`, or `module:Class`, with settings if wanted: "auto budget=25". Two joined by "+"
            are combined (`Combined`): the first decides which steps are evaluated, the second how, as in
            "uniform every=3 + guidance".
        **settings: Further settings of a single accelerator.

    Raises:
        ValueError: If the name, a setting or its value is unknown, or if the class makes no accelerator.
    """
    parts = split_sum(name, "accelerator")
    if len(parts) > 2:
        raise ValueError(f"accelerator {name!r} names {len(parts)}; two can be combined")
    if len(parts) == 2 and settings:
        raise ValueError(
            f"accelerator {name!r} names two, so it is not known to which of them {', '.join(settings)} belongs: write "
            "it behind the name, as in 'uniform every=3 + guidance'"
        )
    made = [_single(part, settings) for part in parts]
    return made[0] if len(made) == 1 else Combined(*made)


def _single(text: str, settings: Mapping[str, Any]) -> Accelerator:
    named = read_named(text, "accelerator")
    maker = REGISTRY.find(named.name)
    known = known_settings(maker)
    written = known.read(dict(named.settings), written=True)
    if twice := sorted(written.keys() & settings.keys()):
        raise ValueError(f"accelerator {text!r}: {', '.join(twice)} is given twice, in the name and as a setting")
    label = f"accelerator {named.name!r}"
    try:
        made = maker(**written, **known.read(settings, written=False))
    except ValueError:
        raise
    except Exception as error:  # a stranger's class may raise anything
        raise ValueError(f"{label}: {name_of(maker)} cannot be made: {summary(error)}") from error
    if not callable(getattr(made, "begin", None)):
        raise ValueError(f"{label} is a {type(made).__name__}, which lacks begin(solver, shape, *, seams)")
    return made
