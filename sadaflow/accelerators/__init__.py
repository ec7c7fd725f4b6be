"""Training-free accelerators: they decide, per step and sample, whether the network runs."""

from sadaflow.solvers import from_config, to_config

from .auto.auto import Auto
from .base import Accelerator, Capabilities, Explanation, Mode, PlainRun, Run
from .caching.base import InsideRun, Outermost, ScheduledRun, batch_indices, on_some
from .caching.deepcache import DeepCache
from .caching.first_block import FirstBlock
from .caching.magcache import MagCache
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
from .skipping.guidance import Guidance
from .skipping.seacache import SeaCache
from .skipping.uniform import Uniform

__all__ = [
    "ACCELERATORS",
    "ESTIMATORS",
    "SADA",
    "Accelerator",
    "AdaptiveDiffusion",
    "Auto",
    "Capabilities",
    "Combined",
    "DeepCache",
    "EasyCache",
    "Explanation",
    "FirstBlock",
    "ForwardingRun",
    "Guidance",
    "InsideRun",
    "MagCache",
    "Mode",
    "NodeBuffer",
    "Outermost",
    "PlainRun",
    "ReleasedSADA",
    "RowStore",
    "Run",
    "ScheduledRun",
    "SeaCache",
    "TaylorSeer",
    "TeaCache",
    "TokenCache",
    "Uniform",
    "batch_indices",
    "from_config",
    "make_accelerator",
    "on_some",
    "register_accelerator",
    "to_config",
]
