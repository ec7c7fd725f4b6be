"""Runs that wrap another run."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from sadaflow.models import Seam
from sadaflow.solvers import Solver, State

from .base import Accelerator, Capabilities, Explanation, Mode, Run

_REQUIRED: Final = ("plan", "estimate", "seam", "revise", "observe")


class ForwardingRun(Run):
    """Forwards every call to another run and has its capabilities; the base class of runs that wrap one.

    Args:
        inner: The wrapped run: a `Run`, or any object that has the required methods of one.
        samples: Number of samples in the batch, B.

    Attributes:
        inner: The wrapped run.
    """

    def __init__(self, inner: Any, samples: int) -> None:
        super().__init__(samples)
        self.inner: Run = inner
        declared = getattr(inner, "capabilities", None)
        self.capabilities = declared if isinstance(declared, Capabilities) else Capabilities.of(inner)

    def plan(self, step: int) -> Sequence[Mode]:
        return self.inner.plan(step)

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return self.inner.estimate(step, x, rows)

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        return self.inner.seam(step, mode, rows)

    def revise(self, state: State, x0: Tensor) -> State:
        return self.inner.revise(state, x0)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.inner.observe(step, x, x0, y, x_next)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        if hasattr(self.inner, "edited"):  # an object that is not a `Run` may lack it
            self.inner.edited(step, rows)

    def explain(self, step: int) -> Explanation:
        return self.inner.explain(step)

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return self.inner.carried_out(step, rows)

    def learn_guidance(self, step: int, rows: Sequence[int], difference: Tensor) -> None:
        self.inner.learn_guidance(step, rows, difference)

    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        return self.inner.guidance(step, rows)


def begin_run(accelerator: Accelerator, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
    """Starts a run as `Accelerator.begin` does, and wraps what it returns if that is not a `Run`.

    Raises:
        ValueError: if the accelerator refuses the solver, or if what it returns lacks a method of a run.
    """
    run: object = accelerator.begin(solver, shape, seams=seams)
    if isinstance(run, Run):
        return run
    missing = [name for name in _REQUIRED if not callable(getattr(run, name, None))]
    if missing:
        raise ValueError(
            f"{type(accelerator).__name__}.begin returned a {type(run).__name__}, which lacks {', '.join(missing)} of "
            "a run; derive it from sadaflow.accelerators.Run"
        )
    return ForwardingRun(run, shape[0])


def innermost(run: Run) -> Run:
    """The run inside any number of wrappers; `run` itself if it wraps none."""
    while isinstance(run, ForwardingRun):
        run = run.inner
    return run
