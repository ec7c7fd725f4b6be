"""Wrong accelerators: `check_accelerator` rejects each by the law that it breaks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import Mode
from sadaflow.accelerators import PlainRun
from sadaflow.checks import check_accelerator, examine_accelerator
from sadaflow.models import Seam, Site, call_through
from sadaflow.solvers import Solver, State


class Every2nd(PlainRun):
    """Reuses x0 at every odd step but the last ones: what the wrong accelerators below spoil."""

    def __init__(self, solver: Solver, samples: int) -> None:
        super().__init__(samples)
        self.steps = solver.n_evals
        self.x0 = torch.empty(0)

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.EXTRAPOLATED if step % 2 and step < self.steps - 2 else Mode.FULL] * self.samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return self.x0[list(rows)]

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.x0 = x0


@dataclass
class Made:
    """An accelerator of runs of one class."""

    run: type[Every2nd] = Every2nd
    kept: list[Any] = field(default_factory=list)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Every2nd:
        made = self.run(solver, shape[0])
        made.accelerator = self  # type: ignore[attr-defined]
        return made


def broken(run: type[Every2nd], *laws: str, solvers: Sequence[str] = ("euler",)) -> None:
    """The examination fails, by these laws and no others."""
    report = examine_accelerator(lambda: Made(run), steps=24, solvers=solvers)
    assert {law.name for law in report.failures} == set(laws), str(report)


def test_the_sound_one_passes() -> None:
    broken(Every2nd, solvers=("euler", "dpmpp3m", "heun", "euler-ancestral"))


class LeaksState(Every2nd):
    """Skips later once the same settings have sampled before."""

    def plan(self, step: int) -> Sequence[Mode]:
        self.accelerator.kept += [step] * (step == 0)  # type: ignore[attr-defined]
        late = 2 * len(self.accelerator.kept)  # type: ignore[attr-defined]
        return super().plan(step) if step > late else [Mode.FULL] * self.samples


def test_state_that_leaks_between_runs() -> None:
    broken(LeaksState, "state")


class WorksTwice(Every2nd):
    """Calls every block twice in what it counts as one evaluation."""

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            if site.kind == "block":
                fn(hidden, *args)
            return fn(hidden, *args)

        return seam


def test_work_that_is_not_counted() -> None:
    broken(WorksTwice, "accounting")


class CountsAsCached(Every2nd):
    """Calls everything cached, and computes it."""

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.CACHED if step else Mode.FULL] * self.samples

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return [Mode.CACHED] * len(rows)


def test_whole_evaluations_that_are_called_cached() -> None:
    broken(CountsAsCached, "accounting")


class PrunesInFull(Every2nd):
    """Answers full evaluations with what a block made of stale tokens."""

    def __init__(self, solver: Solver, samples: int) -> None:
        super().__init__(solver, samples)
        self.hidden: dict[int, Tensor] = {}

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            if site.kind != "block":
                return fn(hidden, *args)
            stale = self.hidden.get(0, hidden)
            self.hidden[0] = hidden
            return fn(0.99 * hidden + 0.01 * stale, *args)

        return seam if step else call_through


def test_full_evaluations_that_are_not() -> None:
    broken(PrunesInFull, "full is full")


class OneDecision(Every2nd):
    """Decides once for the batch, by the mean over it."""

    def plan(self, step: int) -> Sequence[Mode]:
        skip = step % 2 and step < self.steps - 2 and float(self.x0.abs().mean()) > 0.7
        return [Mode.EXTRAPOLATED if skip else Mode.FULL] * self.samples


def test_a_decision_for_the_whole_batch() -> None:
    broken(OneDecision, "batch invariance")


class OverwritesVelocity(Every2nd):
    """Uses y as its own scratch space."""

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        y.mul_(0.5)


def test_inputs_overwritten() -> None:
    broken(OverwritesVelocity, "inputs kept")


class OverwritesState(Every2nd):
    """Overwrites the state that the solver goes on from."""

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        x_next.mul_(0.999)


def test_states_overwritten() -> None:
    broken(OverwritesState, "inputs kept", "identity")


class Throws(Every2nd):
    """Lets the global generator decide."""

    def plan(self, step: int) -> Sequence[Mode]:
        thrown = float(torch.rand(())) < 0.5
        return super().plan(step) if thrown else [Mode.FULL] * self.samples


def test_global_randomness() -> None:
    broken(Throws, "determinism")


class Hoards(Every2nd):
    """Keeps every state."""

    def __init__(self, solver: Solver, samples: int) -> None:
        super().__init__(solver, samples)
        self.past: list[Callable[[], Tensor]] = []

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        self.past.append(lambda: x)


def test_memory_that_grows() -> None:
    broken(Hoards, "memory")


class DividesByStep(Every2nd):
    """Believes that times fall from evaluation to evaluation."""

    def __init__(self, solver: Solver, samples: int) -> None:
        super().__init__(solver, samples)
        times = [node.t for node in solver.nodes]
        self.rates = [1 / (a - b) for a, b in zip(times, times[1:], strict=False)]


def test_a_crash_where_solvers_evaluate_twice_at_a_time() -> None:
    broken(DividesByStep, "solvers", solvers=("euler", "heun"))


class Improves(Every2nd):
    """Changes the state of evaluated steps."""

    def revise(self, state: State, x0: Tensor) -> State:
        return State(1.001 * state.x, state.step, state.history, state.anchor)


def test_plain_steps_that_are_not_plain() -> None:
    broken(Improves, "identity")


class Upcasts(Every2nd):
    """Answers in float64 whatever x is."""

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return super().estimate(step, x, rows).double()


def test_estimates_of_another_dtype() -> None:
    broken(Upcasts, "dtype")


class NeedsTwenty(Every2nd):
    """Fails in the middle of short runs."""

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        [0.0][0 if self.steps >= 20 else step]


def test_short_runs_that_fail_midway() -> None:
    broken(NeedsTwenty, "few steps")


class Guesses(Every2nd):
    """Estimates x0 as nothing."""

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return torch.zeros_like(self.x0[list(rows)])


def test_worse_than_fewer_steps() -> None:
    broken(Guesses, "accuracy")


class PlansForOne(Every2nd):
    """Plans one mode for the batch."""

    def plan(self, step: int) -> Sequence[Mode]:
        return super().plan(step)[:1]


def test_a_plan_that_does_not_fit_ends_the_examination() -> None:
    broken(PlansForOne, "runs")
    with pytest.raises(AssertionError, match=r"FAIL  runs.*plan\(0\) is .* 4 samples"):
        check_accelerator(lambda: Made(PlansForOne))
