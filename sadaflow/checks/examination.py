"""One examination: the runs of an accelerator, and the limits that its results are held to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from sadaflow.sampling.loop import sample
from sadaflow.solvers import Grid, Solver

from ..accelerators.base import Mode
from .device import Usage
from .naive import Holding, Never
from .recording import Watched
from .runs import FLOW, SAMPLES, SHAPE, SOLVER, Case, Factory, Outcome, Runs, solver_of

BASE: Final = ("euler", "dpmpp2m")
"""Solvers with one evaluation a step, used for all laws but those on solvers."""


@dataclass(frozen=True)
class Examination(Runs):
    """The runs of an accelerator, with what the laws need to know.

    Attributes:
        never: Makes accelerators of the same class that skip nothing; None if there are none.
        solvers: Names of the solvers that the accelerator is measured with.
        schedules: Names of the schedules that it is measured on.
        worst: Factor by which the error may exceed that of Euler's method at the same cost.
        tolerance: Largest difference of a sample alone and in a batch, whose sums round differently.
        usage: What cases were found to do on a device.
    """

    never: Factory | None = None
    solvers: Sequence[str] = BASE
    schedules: Sequence[str] = (FLOW,)
    worst: float = 3.0
    tolerance: float = 1e-8
    usage: dict[Case, Usage] = field(default_factory=dict, init=False, repr=False, compare=False)
    _coarse: dict[Any, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def short(self) -> int:
        """Half the number of steps, or all if the accelerator needs more."""
        return next(count for count in (self.steps // 2, self.steps) if self.begins(count))

    def begins(self, steps: int) -> bool:
        """Whether the accelerator takes runs of so many steps."""
        try:
            self.factory().begin(solver_of(SOLVER, steps), torch.Size((SAMPLES, *SHAPE)), seams=True)
        except ValueError:
            return False
        return True

    def error(self, fast: Outcome, case: Case) -> float:
        """Root-mean-square difference of the final states from plain sampling's."""
        return rms(fast.x - self.plain(case).x)

    def accurate(self, fast: Outcome, case: Case) -> tuple[float, float]:
        """The error, and the bound on it: `worst` times the error of a naive method at the same cost.

        That is the larger error of two: of Euler's method on as few of the grid's steps as were evaluated, and of
        holding x0 at the steps that `fast` did not evaluate in full. The second is measured only if the first is too
        small.
        """
        if not fast.saves:
            return 0.0, 0.0
        error = self.error(fast, case)
        share = sum(fast.sampled.stats.nfe) / (len(case.rows) * self.solver(case).n_evals)
        bound = self.worst * self._coarse_error(max(1, round(share * (case.steps or self.steps))), case)
        if error > bound:
            bound = max(bound, self.worst * self.held_error(fast, case))
        return error, bound

    def held_error(self, fast: Outcome, case: Case) -> float:
        """Error of holding the last x0 wherever `fast` did not evaluate a sample in full."""
        full = tuple(tuple(mode == Mode.FULL for mode in modes) for modes in fast.modes)
        key = full, case
        if key not in self._coarse:
            self._coarse[key] = rms(self.run(case, Holding(full)).x - self.plain(case).x)
        return self._coarse[key]

    def _coarse_error(self, few: int, case: Case) -> float:
        euler = Case("euler", self.quick, case.schedule, case.rows, case.shape, case.steps)
        key = few, euler
        if key not in self._coarse:
            whole = self.solver(euler)
            steps = whole.n_evals
            points = torch.linspace(0, steps, few + 1, dtype=torch.float64).round().long()
            part = _on_grid(whole, Grid.from_t(whole.grid.schedule, whole.grid.t[points]))
            coarse = sample(part, self.denoiser(euler, part), euler.noise(), Watched(Never()))
            self._coarse[key] = rms(coarse.x - self.plain(euler).x)
        return self._coarse[key]


def _on_grid(solver: Solver, grid: Grid) -> Solver:
    return type(solver)(grid)  # type: ignore[call-arg]


def rms(difference: Tensor) -> float:
    """Root mean square of all numbers."""
    return float(difference.square().mean().sqrt())


def largest(difference: Tensor) -> float:
    """Largest absolute value; infinite if a number is not finite."""
    return float(difference.abs().max()) if bool(torch.isfinite(difference).all()) else float("inf")
