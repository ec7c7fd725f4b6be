"""Measures a calibration of a loaded pipeline."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.solvers import Prediction

from ..accelerators.auto.calibration import Calibration
from ..families import Request
from ..sampling.auto_calibration import Effort, calibrate
from ..sampling.denoiser import GuidedDenoiser
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
"""Prompts of a calibration, of which no table of the documentation reports anything."""

_SEED: Final = 10_000


def calibrate_pipeline(
    pipe: "Sampler",
    request: Request,
    prompts: Sequence[str],
    effort: Effort,
    notify: Callable[[str], object],
    advance: Callable[[int], object],
) -> Calibration:
    """Measures a calibration.

    Args:
        pipe: The pipeline, without LoRAs.
        request: Solver, steps, grid, guidance and size; it has no prompt.
        prompts: The prompts, which are taken in turn, each time with another seed.
        effort: How much is measured.
        notify: Called with a line about what is done next.
        advance: Called with the number of samples after every evaluation of the network.

    Raises:
        ValueError: If there is no prompt, or if the request does not fit the checkpoint or `auto`.
    """
    if not prompts or isinstance(prompts, str):
        raise ValueError("a calibration needs a list of one or more prompts")

    def requested(rows: Sequence[int]) -> Request:
        own = [prompts[row % len(prompts)] for row in rows]
        filled = replace(request, prompt=own, seed=[_SEED + row for row in rows])
        return complete(filled, pipe.family, pipe.defaults, device=pipe.device, output="latent")

    def batches(count: int) -> Iterator[tuple["_Counted", Tensor]]:
        for first in range(0, count, effort.batch):
            part = requested(range(first, min(first + effort.batch, count)))
            noise = start_noise(part, pipe.family).to(pipe.device, torch.float32)
            yield _Counted(pipe.denoiser(solver, part), advance), noise

    first = requested([0])
    solver = pipe.solver_for(first)
    return calibrate(
        solver,
        batches,
        weights=pipe.calibrations.weights,
        guidance=first.guidance_scale,
        effort=effort,
        notify=notify,
    )


@dataclass(frozen=True)
class _Counted:
    """A denoiser that reports the number of samples of every evaluation."""

    inner: GuidedDenoiser
    advance: Callable[[int], object]

    @property
    def prediction(self) -> Prediction:
        return self.inner.prediction

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), call_through)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        x0 = self.inner.evaluate(x, step, rows, seam)
        self.advance(len(rows))
        return x0
