"""Computes x0 for one step: evaluates the network for the samples whose mode requires it, and estimates the rest."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..accelerators.base import Mode, Run
from ..device.indexing import index_of, put, taken
from .binding import share_of
from .denoiser import BranchDenoise, Denoise, RowDenoise, evaluates_rows
from .nfe import Meter


def evaluate(
    denoise: Denoise, run: Run, step: int, x: Tensor, plan: Sequence[Mode], estimate: Tensor | None, meter: Meter
) -> tuple[Tensor, list[Mode]]:
    """x0 of every sample: the network's for those planned to be evaluated, the estimate for the others.

    Args:
        denoise: The denoiser. If it is not a `RowDenoise`, it is evaluated for the whole batch.
        run: The accelerator's run.
        step: Index of the evaluation.
        x: States of all samples, (B, ...).
        plan: The mode of every sample.
        estimate: x0 of the samples that skip the network, in order; None if none does.
        meter: Counts the operations of evaluations.

    Returns:
        x0 (B, ...), and how each sample got it: as planned, except that a sample planned CACHED may have been
        evaluated in full.

    Raises:
        ValueError: if the denoiser returns another shape than that of x.
    """
    modes = list(plan)
    skipped = [row for row, mode in enumerate(modes) if not mode.evaluates]
    if estimate is not None and len(skipped) == len(modes):
        return estimate, modes
    if not evaluates_rows(denoise):
        x0 = denoise(x, step)
        _check_shape(x0, x, step)
        return x0 if estimate is None else x0.index_copy(0, index_of(skipped, x0.device), estimate), modes
    x0 = torch.empty_like(x)
    for mode in (Mode.FULL, Mode.TOKENS, Mode.CACHED, Mode.CONDITIONAL):
        rows = [row for row, planned in enumerate(plan) if planned is mode]
        if not rows:
            continue
        with meter.watching(mode):
            output = _evaluated(denoise, run, step, taken(x, rows), mode, rows)
        if mode is Mode.CACHED and run.capabilities.caches:
            for row, found in zip(rows, run.carried_out(step, rows), strict=True):
                modes[row] = found
        meter.learn([modes[row] for row in rows], share_of(denoise, step))
        if len(rows) == len(modes):
            return output, modes
        put(x0, rows, output)
    if estimate is not None:
        put(x0, skipped, estimate)
    return x0, modes


def _evaluated(denoise: RowDenoise, run: Run, step: int, x: Tensor, mode: Mode, rows: list[int]) -> Tensor:
    """x0 of the samples `rows`, whose states are x (len(rows), ...), all evaluated in `mode`."""
    seam = run.seam(step, mode, rows)
    if not (run.capabilities.omits_negative and isinstance(denoise, BranchDenoise)):
        return denoise.evaluate(x, step, rows, seam)
    if mode is Mode.CONDITIONAL:
        return denoise.evaluate_conditional(x, step, rows, seam) + run.guidance(step, rows)
    x0, conditional = denoise.evaluate_branches(x, step, rows, seam)
    run.learn_guidance(step, rows, x0 - conditional)
    return x0


def require_negative(denoise: Denoise) -> None:
    """Raises ValueError if the denoiser has no negative branch of classifier-free guidance."""
    if not isinstance(denoise, BranchDenoise):
        reason = "it has no `evaluate_branches`, as `BranchDenoise` describes"
    elif not denoise.has_negative:
        reason = "guidance is 1 or less, or embedded in the network"
    else:
        return
    raise ValueError(
        "guidance caching leaves out the negative branch of classifier-free guidance, and this denoiser has none: "
        + reason
    )


def _check_shape(x0: Tensor, x: Tensor, step: int) -> None:
    if x0.shape != x.shape:
        raise ValueError(f"at step {step} the denoiser returned shape {tuple(x0.shape)} for x of {tuple(x.shape)}")
