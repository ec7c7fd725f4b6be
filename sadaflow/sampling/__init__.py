"""The sampling loop: a solver, a denoiser and an accelerator, step by step."""

from .denoiser import Denoise, GuidedDenoiser
from .guided import Guided
from .loop import sample
from .network import NetworkCall
from .results import Sampled, Stats, Step
from .told_time import TIMES
from .trace import Trace
from .wrapped import Denoiser

__all__ = [
    "TIMES",
    "Denoise",
    "Denoiser",
    "Guided",
    "GuidedDenoiser",
    "NetworkCall",
    "Sampled",
    "Stats",
    "Step",
    "Trace",
    "sample",
]
