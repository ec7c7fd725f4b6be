"""Samplers for diffusion and flow-matching models, with stability-guided adaptive acceleration (SADA).

Public names are imported when they are used first, so that `sadaflow --version` and `--help` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _checkout as _checkout  # first: finds sadaflow.models and sadaflow.solvers in a bare checkout

if TYPE_CHECKING:
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

__version__ = "0.2.0"

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

# The same imports as above, for __getattr__; a test compares the two.
_MODULES = {
    "accelerators": ("SADA", "Accelerator", "Auto", "Mode", "Uniform"),
    "models": ("Seams",),
    "parallel": ("Parallel",),
    "pipeline.output": ("Output",),
    "pipeline.pipeline": ("Pipeline",),
    "sampling.denoiser": ("Denoise", "GuidedDenoiser"),
    "sampling.guided": ("Guided",),
    "sampling.loop": ("sample",),
    "sampling.network": ("NetworkCall",),
    "sampling.observing": ("STOP", "Edit", "Observer"),
    "sampling.results": ("Sampled", "Stats", "Step"),
    "sampling.steering": ("Steered",),
    "sampling.trace": ("Trace",),
    "sampling.wrapped": ("Denoiser",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
# Packages that are attributes after `import sadaflow` alone.
_PACKAGES = (
    "accelerators", "device", "display", "explore", "families", "files", "guidance", "loading", "models", "parallel",
    "pipeline", "placement", "sampling", "solvers",
)  # fmt: skip

if not TYPE_CHECKING:  # a type checker reads the imports above, and then knows which names do not exist

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
            globals()[name] = value
            return value
        if name in _PACKAGES:
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
