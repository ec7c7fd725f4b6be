"""The sampling loop: solver, denoiser and accelerator, one step at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ..accelerators import Accelerator, Mode, make_accelerator
from ..accelerators.base import BranchRun, CachingRun, PlainRun, Run, fitted
from ..device.timing import Stopwatch
from .denoiser import Denoise, RowDenoise
from .evaluation import answers, require_negative
from .finite_check import FiniteCheck
from .nfe import Meter
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
    `network_seconds` that in the network; on CUDA both are the device's time. What keeping a trace takes is left out.
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
    Raises FloatingPointError, naming step and samples, when an x0 is not finite (on CUDA one step later); ValueError
    where the accelerator does not fit the solver or the denoiser.
    """
    accelerator = make_accelerator(accelerator) if isinstance(accelerator, str) else accelerator
    prediction = getattr(denoise, "prediction", None)
    if accelerator is not None and prediction is not None:
        accelerator = fitted(accelerator, prediction)
    selective = isinstance(denoise, RowDenoise)
    samples = noise.shape[0]
    run: Run = PlainRun(samples) if accelerator is None else accelerator.begin(solver, noise.shape, seams=selective)
    if isinstance(run, BranchRun):
        require_negative(denoise)
    nfe, modes = [0.0] * samples, [[] for _ in range(samples)]  # type: list[float], list[list[str]]
    watch = Stopwatch(noise.device)
    began = watch.now()
    state = solver.start(noise)
    meter = Meter(selective and isinstance(run, CachingRun))
    recorder = Recorder(solver, state.x) if trace else None
    finite = FiniteCheck(solver, lag=noise.device.type == "cuda")
    while state.step < solver.n_evals:
        step, x = state.step, state.x
        with watch.measuring("controller"):
            plan = run.plan(step)
            skipped = [row for row, mode in enumerate(plan) if not mode.evaluates]
            estimate = run.estimate(step, x, skipped) if skipped else None
        with watch.measuring("network"):
            x0, plan = answers(denoise, run, step, x, plan, skipped, estimate, meter)
        for row, mode in enumerate(plan):
            modes[row].append(mode.value)
            nfe[row] += meter.cost(mode) if selective else float(len(skipped) < samples)
        finite.check(x0, step)
        with watch.measuring("controller"):
            state = run.revise(state, x0)
        x = state.x
        y = solver.velocity(x, x0, step)
        state = solver.step(state, x0)
        if recorder is not None:
            with watch.measuring("trace"):
                recorder.record(step, x, x0, y, run, watch.seconds("network"), watch.seconds("controller"))
        with watch.measuring("controller"):
            run.observe(step, x, x0, y, state.x)
        if observer is not None:
            observer(Step(step, solver.n_evals, solver.nodes[step].t, x, x0, y, tuple(plan)))
    finite.finish()
    seconds = watch.now() - began - watch.seconds("trace")
    stats = Stats(nfe, modes, seconds, watch.seconds("controller"), watch.seconds("network"))
    return Sampled(state.x, stats, None if recorder is None else recorder.trace(modes))
