"""Samples of a loaded pipeline on which something is measured or searched."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.solvers import Adaptive, Prediction, Solver

from ..families import Request
from ..families.hooks import with_texts
from ..sampling.auto_calibration import Batches
from ..sampling.denoiser import GuidedDenoiser
from .calibrations import guidance_of
from .inputs import complete, start_noise

if TYPE_CHECKING:
    from .sampler import Sampler

PROMPTS: Final = (
    "a lighthouse on a cliff above a stormy sea",
    "portrait of an old fisherman, oil painting",
    "a bowl of ramen on a wooden table, close-up photo",
    "a tram in a rainy city street at night",
    "a fox sleeping in a bed of autumn leaves",
    "isometric drawing of a small bakery",
    "an astronaut riding a bicycle on the moon",
    "a vase of tulips in front of a window, watercolor",
    "mountain lake at sunrise with fog",
    "a robot playing chess with a child",
    "macro photo of a beetle on a blade of grass",
    "a castle made of glass, digital art",
)
"""Prompts to measure with, of which no table of the documentation reports anything."""

_SEED: Final = 10_000
_ARGUMENTS: Final = ("solver", "steps", "grid", "guidance", "true_guidance", "height", "width")


@dataclass(frozen=True)
class Tuning:
    """What is measured on.

    Attributes:
        solver: The solver, with its grid.
        batches: Yields the first so many samples in batches: a denoiser, and the start noise (B, ...).
        guidance: The scale of guidance of the denoisers.
    """

    solver: Solver
    batches: Batches
    guidance: float


def tuning_samples(
    pipe: "Sampler",
    prompts: Sequence[str],
    batch: int,
    arguments: dict[str, Any],
    advance: Callable[[int], object],
    who: str,
) -> Tuning:
    """Prepares samples of a pipeline.

    Args:
        pipe: The pipeline, without LoRAs.
        prompts: Prompts, or class labels (see `with_texts`), which are taken in turn, each time with another seed.
        batch: Most samples per evaluation of the network.
        arguments: Solver, steps, grid, guidance, height and width, as for a call.
        advance: Called with the number of samples of every evaluation.
        who: What they are for, for messages: "calibrate" or "schedule".

    Raises:
        ValueError: If there is no prompt, if an argument is unknown or does not fit the checkpoint, if the solver is
            adaptive, or if LoRAs are merged.
    """
    if not prompts or isinstance(prompts, str):
        raise ValueError(f"{who} needs a list of one or more prompts")
    if unknown := set(arguments) - set(_ARGUMENTS):
        raise ValueError(f"{who} has no argument {sorted(unknown)[0]}=; it has {', '.join(_ARGUMENTS)}")
    if pipe.adapted:
        raise ValueError(f"{who} measures the checkpoint's own weights: unload the LoRAs first")
    request = Request(prompt=[], **arguments)

    def requested(rows: Sequence[int]) -> Request:
        own = [prompts[row % len(prompts)] for row in rows]
        filled = with_texts(replace(request, seed=[_SEED + row for row in rows]), pipe.family, own)
        return complete(filled, pipe.family, pipe.defaults, device=pipe.device, output="latent")

    def batches(count: int) -> Iterator[tuple["_Counted", Tensor]]:
        for first in range(0, count, batch):
            part = requested(range(first, min(first + batch, count)))
            noise = start_noise(part, pipe.family).to(pipe.device, torch.float32)
            yield _Counted(pipe.denoiser(solver, part), advance), noise

    first = requested([0])
    solver = pipe.solver_for(first)
    if isinstance(solver, Adaptive):
        raise ValueError(f"{who}: an adaptive solver takes no accelerator; choose a solver with fixed steps")
    denoise = pipe.denoiser(solver, first)
    guidance = guidance_of(denoise.conditional, denoise.negative, denoise.guidance, first.guidance)
    if guidance is None:
        raise ValueError(f"{who} measures classifier-free guidance: give a number, not guidance={first.guidance!r}")
    return Tuning(solver, batches, guidance)


@dataclass(frozen=True)
class _Counted:
    """A denoiser that reports the number of samples of every evaluation."""

    inner: GuidedDenoiser
    advance: Callable[[int], object]

    @property
    def prediction(self) -> Prediction:
        return self.inner.prediction

    @property
    def calibrations(self) -> Sequence[Any]:
        return self.inner.calibrations

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), call_through)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        x0 = self.inner.evaluate(x, step, rows, seam)
        self.advance(len(rows))
        return x0
