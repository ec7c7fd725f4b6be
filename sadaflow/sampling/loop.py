"""The sampling loop: solver, denoiser and accelerator, one step at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sadaflow.solvers import Adaptive, Solver, State

from ..accelerators import Accelerator, make_accelerator
from ..accelerators.base import Mode, Run
from ..accelerators.fitting import calibrated, fitted
from ..accelerators.forwarding import begin_run
from .adaptive import sample_adaptive
from .agreement import require_same_nodes
from .binding import bound, share_of
from .denoiser import Denoise, evaluates_rows
from .evaluation import evaluate, require_negative
from .observing import STOP, Edit, Observer, ask, changed_rows
from .recorder import Recorder
from .results import Sampled, Step


@torch.no_grad()
def sample(
    solver: Solver | Adaptive,
    denoise: Denoise,
    noise: Tensor,
    accelerator: Accelerator | str | None = None,
    *,
    observer: Observer | None = None,
    trace: bool = False,
) -> Sampled:
    """Follows the probability-flow ODE from noise to the end of the solver's grid.

    Args:
        solver: The solver, with its grid. With an `Adaptive` one, a denoiser without `at(node)` is called as
            `denoise(x, node)`.
        denoise: Any callable (x, step) -> x0. A `RowDenoise` is evaluated for those samples only that need the network;
            any other is evaluated for the whole batch as soon as one sample needs it. If it has an attribute
            `prediction`, the accelerator is fitted to it; an attribute `calibrations` holds what was measured of it.
        noise: Unit-normal noise, (B, ...).
        accelerator: Settings, or the name of an accelerator; None evaluates every step in full.
        observer: Called after every step. It may return an `Edit` of the step, or `STOP`: its x0 is then the result.
        trace: Whether to keep the trajectory (see `Trace` for its memory). It changes no result.

    Returns:
        The final states and the cost of the run.

    Raises:
        FloatingPointError: if an x0 or a state is not finite (on CUDA one step later), with the step and the samples.
        ValueError: if the accelerator does not fit the solver or the denoiser, if the denoiser has other nodes, or if
            an edit does not fit the batch.
    """
    denoise = bound(denoise, solver, noise)
    if isinstance(solver, Adaptive):
        return sample_adaptive(solver, denoise, noise, accelerator, observer, trace)
    require_same_nodes(denoise, solver.nodes)
    run = _begin(accelerator, solver, denoise, noise.shape)
    recorder = Recorder(solver, run, denoise, noise, trace=trace)
    state, renewed = solver.start(noise), frozenset[int]()
    while state.step < solver.n_evals:
        step = state.step
        with recorder.controller():
            plan = _with_full(run.plan(step), renewed)
            skipped = [row for row, mode in enumerate(plan) if not mode.evaluates]
            estimate = run.estimate(step, state.x, skipped) if skipped else None
        with recorder.network():
            x0, modes = evaluate(denoise, run, step, state.x, plan, estimate, recorder.meter)
        recorder.evaluated(step, state.x, x0, modes)
        with recorder.controller():
            state = run.revise(state, x0)
        x, y = state.x, solver.velocity(state.x, x0, step)
        before, state = state, solver.step(state, x0)
        done = Step(step, solver.n_evals, solver.nodes[step].t, x, x0, y, tuple(modes), state.x)
        recorder.stepped(done)
        with recorder.controller():
            run.observe(step, x, x0, y, state.x)
        recorder.observed()
        reply = None if observer is None else ask(observer, done)
        if reply is STOP:
            return recorder.finish(x0, stopped_after=step + 1)
        renewed = _changed_by_guidance(denoise, solver, step, noise.shape[0])
        if isinstance(reply, Edit):
            state, edited = _edited(solver, recorder, before, state, done, reply)
            renewed |= edited
        if renewed:
            with recorder.controller():
                run.edited(step, sorted(renewed))
    return recorder.finish(state.x)


def _changed_by_guidance(denoise: Denoise, solver: Solver, step: int, samples: int) -> frozenset[int]:
    """The samples, all or none, whose guidance begins or ends after a step: x0 of before does not continue there."""
    last = step + 1 == solver.n_evals
    changes = not last and share_of(denoise, step) != share_of(denoise, step + 1)
    return frozenset(range(samples)) if changes else frozenset()


def _with_full(plan: Sequence[Mode], rows: Iterable[int]) -> Sequence[Mode]:
    """The plan, with full evaluations of the samples that were edited, or whose guidance has changed."""
    chosen = frozenset(rows)
    return [Mode.FULL if row in chosen else mode for row, mode in enumerate(plan)] if chosen else plan


def _edited(
    solver: Solver, recorder: Recorder, before: State, after: State, step: Step, edit: Edit
) -> tuple[State, frozenset[int]]:
    """Applies an edit.

    Args:
        solver: The solver.
        recorder: Records the edited step.
        before: The state that the step was taken from.
        after: The state that it led to.
        step: The step.
        edit: The edit, checked.

    Returns:
        The state after the edited step, and the indices of the samples that it changes.
    """
    rows = changed_rows(edit.x0, step.x0)
    if rows and edit.x0 is not None:
        after = solver.step(before, edit.x0)
        recorder.edited(replace(step, x0=edit.x0, y=solver.velocity(before.x, edit.x0, step.index)))
    moved = changed_rows(edit.x, after.x)
    if edit.x is not None:
        after = replace(after, x=edit.x)
    return after, frozenset((*rows, *moved))


def _begin(accelerator: Accelerator | str | None, solver: Solver, denoise: Denoise, shape: torch.Size) -> Run:
    """The accelerator's run, fitted to what the denoiser predicts."""
    if accelerator is None:
        return Run(shape[0])
    accelerator = make_accelerator(accelerator) if isinstance(accelerator, str) else accelerator
    prediction = getattr(denoise, "prediction", None)
    if prediction is not None:
        accelerator = fitted(accelerator, prediction)
    accelerator = calibrated(accelerator, getattr(denoise, "calibrations", ()), solver)
    run = begin_run(accelerator, solver, shape, seams=evaluates_rows(denoise))
    if run.capabilities.omits_negative:
        require_negative(denoise)
    if run.capabilities.caches and share_of(denoise, 0) == 0:
        raise ValueError(
            f"accelerator {type(accelerator).__name__} fills its cache at the first step, and guidance evaluates no "
            "network there: use CFGZeroStar(zero_steps=0), or another accelerator"
        )
    return run
