"""How one step's x0 is had: from the network for the samples that are evaluated, in their modes; else the estimate."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..accelerators import Mode
from ..accelerators.base import BranchRun, CachingRun, Run
from ..device.indexing import index_of, put, taken
from .denoiser import BranchDenoise, Denoise, RowDenoise
from .nfe import Meter


def answers(
    denoise: Denoise,
    run: Run,
    step: int,
    x: Tensor,
    plan: Sequence[Mode],
    skipped: list[int],
    estimate: Tensor | None,
    meter: Meter,
) -> tuple[Tensor, Sequence[Mode]]:
    """x0 of every sample, the network's for those planned to be evaluated, the estimate for the others; and how each
    was had, which for cached ones may turn out inside the network."""
    if estimate is not None and len(skipped) == len(plan):
        return estimate, plan
    if not isinstance(denoise, RowDenoise):
        x0 = denoise(x, step)
        _check_shape(x0, x, step)
        return x0 if estimate is None else x0.index_copy(0, index_of(skipped, x0.device), estimate), plan
    x0, modes = torch.empty_like(x), list(plan)
    for mode in (Mode.FULL, Mode.TOKENS, Mode.CACHED, Mode.CONDITIONAL):
        rows = [row for row, planned in enumerate(plan) if planned is mode]
        if not rows:
            continue
        everyone = len(rows) == len(plan)
        with meter.watching(mode):
            answer = _evaluated(denoise, run, step, taken(x, rows), mode, rows)
        if mode is Mode.CACHED and isinstance(run, CachingRun):
            for row, found in zip(rows, run.carried_out(step, rows), strict=True):
                modes[row] = found
        meter.learn([modes[row] for row in rows])
        if everyone:
            return answer, modes
        put(x0, rows, answer)
    if estimate is not None:
        put(x0, skipped, estimate)
    return x0, modes


def _evaluated(denoise: RowDenoise, run: Run, step: int, x: Tensor, mode: Mode, rows: list[int]) -> Tensor:
    """x0 of the samples `rows`, whose states are x (len(rows), ...), all evaluated in `mode`."""
    seam = run.seam(step, mode, rows)
    if not (isinstance(run, BranchRun) and isinstance(denoise, BranchDenoise)):
        return denoise.evaluate(x, step, rows, seam)
    if mode is Mode.CONDITIONAL:
        return denoise.evaluate_conditional(x, step, rows, seam) + run.guidance(step, rows)
    x0, conditional = denoise.evaluate_branches(x, step, rows, seam)
    run.learn_guidance(step, rows, x0 - conditional)
    return x0


def require_negative(denoise: Denoise) -> None:
    if isinstance(denoise, BranchDenoise) and denoise.has_negative:
        return
    raise ValueError(
        "guidance caching leaves out the negative branch of classifier-free guidance, and this denoiser has none: "
        + (
            "guidance is 1 or less, or embedded in the network"
            if isinstance(denoise, BranchDenoise)
            else "it has no `evaluate_branches`, as `BranchDenoise` describes"
        )
    )


def _check_shape(x0: Tensor, x: Tensor, step: int) -> None:
    if x0.shape != x.shape:
        raise ValueError(f"the denoiser answered step {step} with shape {tuple(x0.shape)} to x of {tuple(x.shape)}")
