"""Measures a calibration of a loaded pipeline."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.solvers import Adaptive, Prediction

from ..accelerators.auto.calibration import Calibration
from ..families import Request
from ..sampling.auto_calibration import Effort, calibrate
from ..sampling.denoiser import GuidedDenoiser
from .calibrations import guidance_of
from .inputs import complete, start_noise
from .progress import counting

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
_ARGUMENTS: Final = ("solver", "steps", "grid", "guidance", "true_guidance", "height", "width")


def calibrate_pipeline(
    pipe: "Sampler",
    prompts: Sequence[str] = PROMPTS,
    *,
    effort: Effort = Effort(),  # noqa: B008 - frozen
    progress: bool | None = None,
    **arguments: Any,
) -> Calibration:
    """Measures a calibration, which the pipeline's `accelerator="auto"` uses from then on.

    Args:
        pipe: The pipeline, without LoRAs.
        prompts: Prompts like those that will be sampled. They are taken in turn, each time with another seed.
        effort: How much is measured.
        progress: Whether to show progress on stderr; None shows it on a terminal.
        **arguments: What to measure: solver, steps, grid, guidance, height and width, as for a call.

    Returns:
        The calibration; `sadaflow.pipeline.calibrations.write_calibrations` stores it.

    Raises:
        ValueError: If there is no prompt, if an argument is unknown or does not fit the checkpoint or `auto`, or if
            LoRAs are merged.
    """
    if not prompts or isinstance(prompts, str):
        raise ValueError("a calibration needs a list of one or more prompts")
    if unknown := set(arguments) - set(_ARGUMENTS):
        raise ValueError(f"calibrate has no argument {sorted(unknown)[0]}=; it has {', '.join(_ARGUMENTS)}")
    if pipe.adapted:
        raise ValueError("a calibration is one of the checkpoint's own weights: unload the LoRAs first")
    request = Request(prompt=[], **arguments)

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
    solver, weights = pipe.solver_for(first), pipe.calibrations.weights
    if isinstance(solver, Adaptive):
        raise ValueError("an adaptive solver takes no accelerator, and so no calibration")
    denoise = pipe.denoiser(solver, first)
    guidance = guidance_of(denoise.conditional, denoise.negative, denoise.guidance, first.guidance_scale)
    with counting(progress) as (notify, advance):
        found = calibrate(solver, batches, weights=weights, guidance=guidance, effort=effort, notify=notify)
    pipe.calibrations = pipe.calibrations.added(found)
    return found


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
