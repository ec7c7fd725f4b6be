"""Training-free accelerators: they decide, per step and sample, whether the network runs."""

from sadaflow.solvers import from_config, to_config

from .auto.auto import Auto
from .base import Accelerator, Capabilities, Explanation, Mode, PlainRun, Run
from .caching.base import InsideRun, Outermost, ScheduledRun, batch_indices, on_some
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
from .forwarding import ForwardingRun
from .history import NodeBuffer, RowStore
from .registry import ACCELERATORS, make_accelerator, register_accelerator
from .sada.estimators import ESTIMATORS
from .sada.released import ReleasedSADA
from .sada.sada import SADA
from .sada.token_cache import TokenCache
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

__all__ = [
    "ACCELERATORS",
    "ESTIMATORS",
    "SADA",
    "Accelerator",
    "AdaptiveDiffusion",
    "Auto",
    "Capabilities",
    "Combined",
    "DBCache",
    "DeepCache",
    "DiCache",
    "EasyCache",
    "Explanation",
    "FasterGuidance",
    "FirstBlock",
    "FoCa",
    "Fora",
    "ForwardingRun",
    "FreqCa",
    "Guidance",
    "HiCache",
    "InsideRun",
    "MagCache",
    "MeanCache",
    "Mode",
    "NodeBuffer",
    "Outermost",
    "PlainRun",
    "ReleasedSADA",
    "RowStore",
    "Run",
    "Schedule",
    "ScheduledRun",
    "SeaCache",
    "SpeCa",
    "Spectrum",
    "TaylorSeer",
    "TeaCache",
    "TokenCache",
    "Uniform",
    "Zeus",
    "batch_indices",
    "from_config",
    "make_accelerator",
    "on_some",
    "register_accelerator",
    "to_config",
]
