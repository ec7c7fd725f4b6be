"""Training-free accelerators: they decide, per step and sample, whether the network runs."""

from .auto import Auto
from .base import Accelerator, CachingRun, ExplainedRun, Explanation, Mode, PlainRun, Run
from .estimators import ESTIMATORS
from .registry import ACCELERATORS, make_accelerator
from .released import ReleasedSADA
from .sada import SADA
from .tokens import TokenCache
from .uniform import Uniform

__all__ = [
    "ACCELERATORS",
    "ESTIMATORS",
    "SADA",
    "Accelerator",
    "Auto",
    "CachingRun",
    "ExplainedRun",
    "Explanation",
    "Mode",
    "PlainRun",
    "ReleasedSADA",
    "Run",
    "TokenCache",
    "Uniform",
    "make_accelerator",
]
