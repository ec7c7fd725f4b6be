"""Training-free accelerators: they decide, per step and sample, whether the network runs."""

from .adaptive_diffusion import AdaptiveDiffusion
from .auto import Auto
from .base import Accelerator, BranchRun, CachingRun, ExplainedRun, Explanation, Mode, PlainRun, Run
from .combined import Combined
from .deepcache import DeepCache
from .easycache import EasyCache
from .estimators import ESTIMATORS
from .first_block import FirstBlock
from .guidance import Guidance
from .magcache import MagCache
from .registry import ACCELERATORS, make_accelerator
from .released import ReleasedSADA
from .sada import SADA
from .seacache import SeaCache
from .taylorseer import TaylorSeer
from .teacache import TeaCache
from .tokens import TokenCache
from .uniform import Uniform

__all__ = [
    "ACCELERATORS",
    "ESTIMATORS",
    "SADA",
    "Accelerator",
    "AdaptiveDiffusion",
    "Auto",
    "BranchRun",
    "CachingRun",
    "Combined",
    "DeepCache",
    "EasyCache",
    "ExplainedRun",
    "Explanation",
    "FirstBlock",
    "Guidance",
    "MagCache",
    "Mode",
    "PlainRun",
    "ReleasedSADA",
    "Run",
    "SeaCache",
    "TaylorSeer",
    "TeaCache",
    "TokenCache",
    "Uniform",
    "make_accelerator",
]
