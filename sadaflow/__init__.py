"""Samplers for diffusion and flow-matching models, with stability-guided adaptive acceleration (SADA)."""

from . import _checkout as _checkout  # first: finds sadaflow.models and sadaflow.solvers in a bare checkout
from .accelerators import SADA, Accelerator, Auto, Mode, Uniform
from .models import Seams
from .parallel import Parallel
from .pipeline.output import Output
from .pipeline.pipeline import Pipeline
from .sampling.denoiser import Denoise, GuidedDenoiser
from .sampling.guided import Guided
from .sampling.loop import sample
from .sampling.network import NetworkCall
from .sampling.observing import STOP, Edit, Observer
from .sampling.results import Sampled, Stats, Step
from .sampling.steering import Steered
from .sampling.trace import Trace
from .sampling.wrapped import Denoiser

__version__ = "0.1.0"

__all__ = [
    "SADA",
    "STOP",
    "Accelerator",
    "Auto",
    "Denoise",
    "Denoiser",
    "Edit",
    "Guided",
    "GuidedDenoiser",
    "Mode",
    "NetworkCall",
    "Observer",
    "Output",
    "Parallel",
    "Pipeline",
    "Sampled",
    "Seams",
    "Stats",
    "Steered",
    "Step",
    "Trace",
    "Uniform",
    "__version__",
    "sample",
]
