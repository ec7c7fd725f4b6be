"""The sampling loop: solver, denoiser and accelerator, one step at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from .accelerators import Accelerator, Mode, make_accelerator
from .accelerators.base import BranchRun, CachingRun, FittedAccelerator, PlainRun, Run
from .cost import Meter
from .denoiser import BranchDenoise, Denoise, RowDenoise
from .trace import Recorder, Trace


@dataclass(frozen=True)
class Step:
    """One step as an observer sees it; tensors are (B, ...)."""

    index: int
    total: int
    t: float
    x: Tensor
    x0: Tensor
    y: Tensor
    modes: tuple[Mode, ...]


@dataclass(frozen=True)
class Stats:
    """What sampling cost. `nfe` and `modes` have one entry per sample; seconds are wall-clock, of the whole batch.

    An evaluation that took a part of the network from a cache counts in `nfe` with the share of the network's
    multiplications that it made; one on a part of the tokens counts as a whole, one of the conditional branch alone as
    a half.
    `controller_seconds` is the part spent in the accelerator itself, outside the network and the solver, and
    `network_seconds` that in the network. What keeping a trace takes is left out. On CUDA the device is waited for.
    """

    nfe: list[float]
    modes: list[list[str]]
    seconds: float
    controller_seconds: float
    network_seconds: float


@dataclass(frozen=True)
class Sampled:
    """The end of a trajectory: x at the last grid point (B, ...) and what it cost; the whole of it, if asked for."""

    x: Tensor
    stats: Stats
    trace: Trace | None = None


@torch.no_grad()
def sample(
    solver: Solver,
    denoise: Denoise,
    noise: Tensor,
    accelerator: Accelerator | str | None = None,
    *,
    observer: Callable[[Step], None] | None = None,
    trace: bool = False,
) -> Sampled:
    """Follow the probability-flow ODE from unit-normal `noise` (B, ...) to the end of the solver's grid.

    `denoise(x, step) -> x0` is any callable; one with an `evaluate` method (see `RowDenoise`) is asked for those
    samples only that need the network, any other is asked for the whole batch as soon as one sample does. `trace`
    keeps the trajectory (see `Trace` for its memory); it changes no result. An accelerator that goes by what the
    network predicts is told, where `denoise` has a `prediction`.
    Raises FloatingPointError, naming step and samples, when an x0 is not finite; ValueError where the accelerator does
    not fit the solver or the denoiser.
    """
    accelerator = make_accelerator(accelerator) if isinstance(accelerator, str) else accelerator
    prediction = getattr(denoise, "prediction", None)
    if isinstance(accelerator, FittedAccelerator) and prediction is not None:
        accelerator = accelerator.fitted(prediction)
    selective = isinstance(denoise, RowDenoise)
    samples = noise.shape[0]
    run: Run = PlainRun(samples) if accelerator is None else accelerator.begin(solver, noise.shape, seams=selective)
    if isinstance(run, BranchRun):
        _require_negative(denoise)
    nfe, modes = [0.0] * samples, [[] for _ in range(samples)]  # type: list[float], list[list[str]]
    clock = _waiting_clock(noise.device)
    network = controller = recording = 0.0
    began = clock()
    state = solver.start(noise)
    meter = Meter(selective and isinstance(run, CachingRun))
    recorder = Recorder(solver, state.x) if trace else None
    while state.step < solver.n_evals:
        step, x = state.step, state.x
        mark = clock()
        plan = run.plan(step)
        skipped = [row for row, mode in enumerate(plan) if not mode.evaluates]
        estimate = run.estimate(step, x, skipped) if skipped else None
        controller += clock() - mark
        mark = clock()
        x0, plan = _answers(denoise, run, step, x, plan, skipped, estimate, meter)
        network += clock() - mark
        for row, mode in enumerate(plan):
            modes[row].append(mode.value)
            nfe[row] += meter.cost(mode) if selective else float(len(skipped) < samples)
        _check_finite(x0, solver, step)
        mark = clock()
        state = run.revise(state, x0)
        controller += clock() - mark
        x = state.x
        y = solver.velocity(x, x0, step)
        state = solver.step(state, x0)
        if recorder is not None:
            mark = clock()
            recorder.record(step, x, x0, y, run, network, controller)
            recording += clock() - mark
        mark = clock()
        run.observe(step, x, x0, y, state.x)
        controller += clock() - mark
        if observer is not None:
            observer(Step(step, solver.n_evals, solver.nodes[step].t, x, x0, y, tuple(plan)))
    stats = Stats(nfe, modes, clock() - began - recording, controller, network)
    return Sampled(state.x, stats, None if recorder is None else recorder.trace(modes))


def _waiting_clock(device: torch.device) -> Callable[[], float]:
    """Seconds, read once the device has done what it was asked: work counts where it was asked for."""

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return perf_counter()

    return clock


def _answers(
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
        return x0 if estimate is None else x0.index_copy(0, torch.tensor(skipped, device=x0.device), estimate), plan
    x0, modes = torch.empty_like(x), list(plan)
    for mode in (Mode.FULL, Mode.TOKENS, Mode.CACHED, Mode.CONDITIONAL):
        rows = [row for row, planned in enumerate(plan) if planned is mode]
        if not rows:
            continue
        everyone = len(rows) == len(plan)
        with meter.watching(mode):
            answer = _evaluated(denoise, run, step, x if everyone else x[rows], mode, rows)
        if mode is Mode.CACHED and isinstance(run, CachingRun):
            for row, found in zip(rows, run.carried_out(step, rows), strict=True):
                modes[row] = found
        meter.learn([modes[row] for row in rows])
        if everyone:
            return answer, modes
        x0[rows] = answer
    if estimate is not None:
        x0[skipped] = estimate
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


def _require_negative(denoise: Denoise) -> None:
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


def _check_finite(x0: Tensor, solver: Solver, step: int) -> None:
    if bool(torch.isfinite(x0).all()):
        return
    bad = [row for row in range(x0.shape[0]) if not bool(torch.isfinite(x0[row]).all())]
    node = solver.nodes[step]
    raise FloatingPointError(
        f"x0 is not finite at step {step} of {solver.n_evals} (t={node.t:.4g}, sigma={node.sigma:.4g}) for samples "
        f"{bad}: check the checkpoint, the dtype (float16 overflows where bfloat16 and float32 do not) and the guidance"
    )
