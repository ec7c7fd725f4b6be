"""Runs with an adaptive solver, whose number of evaluations is not known beforehand."""

from typing import Any

from torch import Tensor

from sadaflow.solvers import Adaptive, Node

from ..accelerators.base import Mode
from ..device.timing import Stopwatch
from .binding import share_of
from .observing import STOP, Edit, Observer, ask
from .results import Sampled, Stats, Step


def require_plain(
    accelerator: object, trace: bool, *, control: bool = False, parallel: bool = False, blend: bool = False
) -> None:
    """Raises ValueError if an adaptive run has an accelerator, trace, ControlNet, several processes or a blend."""
    if accelerator is not None:
        raise ValueError(
            f"accelerator={accelerator!r} plans a fixed number of evaluations, and an adaptive solver's is not known "
            "beforehand: use accelerator=None, or another solver on the grid of an adaptive run"
        )
    fixed = {"trace=True": trace, "a ControlNet": control, "parallel=": parallel, "blend_prompt=": blend}
    for what, given in fixed.items():
        if given:
            raise ValueError(f"{what} needs a number of evaluations, and an adaptive solver's is not known beforehand")


def sample_adaptive(
    solver: Adaptive,
    denoise: Any,
    noise: Tensor,
    accelerator: object,
    observer: Observer | None,
    trace: bool,
) -> Sampled:
    """Follows the ODE with steps of the solver's own choice; see `sample`.

    Args:
        solver: The solver.
        denoise: Has `at(node)`, which returns the denoiser of one node, or is called as `denoise(x, node)`.
        noise: Unit-normal noise, (B, ...).
        accelerator: Must be None.
        observer: Called after every evaluation, of which the total is not known: `Step.total` is the number so far. An
            edited x0 takes the place of the evaluation's; states cannot be edited, because the solver chooses them.
        trace: Must be False.

    Raises:
        ValueError: if there is an accelerator or a trace, or if an edit does not fit.
        FloatingPointError: if an x0 is not finite.
        RuntimeError: after the solver's `max_evals` evaluations.
    """
    require_plain(accelerator, trace)
    watch, count, cost = Stopwatch(noise.device), 0, 0.0
    began = watch.now()
    modes = [Mode.FULL] * noise.shape[0]

    def x0_at(x: Tensor, node: Node) -> Tensor:
        nonlocal count, cost
        own = denoise.at(node) if hasattr(denoise, "at") else None
        with watch.measuring("network"):
            x0: Tensor = denoise(x, node) if own is None else own(x, 0)
        count, cost = count + 1, cost + share_of(own, 0)
        if observer is None:
            return x0
        return _observed(
            observer, Step(count - 1, count, node.t, x, x0, solver.velocity(x, x0, node), tuple(modes))
        )

    stopped = None
    try:
        x = solver.solve(x0_at, noise).x
    except _Stopped as ended:
        x, stopped = ended.x0, count
    samples = noise.shape[0]
    seconds = watch.now() - began
    every = [[Mode.FULL.value] * count for _ in range(samples)]
    return Sampled(x, Stats([cost] * samples, every, seconds, 0.0, watch.seconds("network"), stopped))


class _Stopped(Exception):
    """Ends a run that the observer stops.

    Args:
        x0: The last x0, (B, ...).
    """

    def __init__(self, x0: Tensor) -> None:
        super().__init__()
        self.x0 = x0


def _observed(observer: Observer, step: Step) -> Tensor:
    """The x0 of an evaluation, after the observer has seen it."""
    reply = ask(observer, step)
    if reply is STOP:
        raise _Stopped(step.x0)
    if not isinstance(reply, Edit):
        return step.x0
    if reply.x is not None:
        raise ValueError(
            f"Edit.x at evaluation {step.index}: an adaptive solver chooses its own states; edit x0, or use another "
            "solver on the grid of an adaptive run"
        )
    return step.x0 if reply.x0 is None else reply.x0
