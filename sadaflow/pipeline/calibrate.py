"""Measures a calibration of a loaded pipeline."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..accelerators.auto.calibration import Calibration
from ..sampling.auto_calibration import Effort, calibrate
from .progress import counting
from .tuning import PROMPTS, tuning_samples

if TYPE_CHECKING:
    from .sampler import Sampler

__all__ = ["PROMPTS", "calibrate_pipeline"]


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
    with counting(progress) as (notify, advance):
        tuning = tuning_samples(pipe, prompts, effort.batch, arguments, advance, "calibrate")
        weights = pipe.calibrations.weights
        how: dict[str, Any] = {"weights": weights, "guidance": tuning.guidance, "effort": effort, "notify": notify}
        found = calibrate(tuning.solver, tuning.batches, **how)
    pipe.calibrations = pipe.calibrations.added(found)
    return found
