"""The sampling loop: a solver, a denoiser and an accelerator, step by step."""

from .denoiser import Denoise, GuidedDenoiser
from .guided import Guided
from .loop import sample
from .network import NetworkCall
from .observing import STOP, Edit, Observer
from .results import Sampled, Stats, Step
from .steering import Steered
from .told_time import TIMES
from .trace import Trace
from .wrapped import Denoiser

__all__ = [
    "STOP",
    "TIMES",
    "Denoise",
    "Denoiser",
    "Edit",
    "Guided",
    "GuidedDenoiser",
    "NetworkCall",
    "Observer",
    "Sampled",
    "Stats",
    "Steered",
    "Step",
    "Trace",
    "sample",
]
