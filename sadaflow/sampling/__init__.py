"""The sampling loop: a solver, a denoiser and an accelerator, step by step."""

from .denoiser import Denoise, GuidedDenoiser
from .loop import sample
from .observing import STOP, Edit, Observer
from .results import Sampled, Stats, Step
from .trace import Trace

__all__ = ["STOP", "Denoise", "Edit", "GuidedDenoiser", "Observer", "Sampled", "Stats", "Step", "Trace", "sample"]
