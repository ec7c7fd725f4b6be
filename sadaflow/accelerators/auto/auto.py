"""Error-controlled skipping: x0 is predicted from the last evaluations, and each gap is as long as its error allows.

Skipping evaluations amounts to a larger step of a multistep method. At every true evaluation the difference between the
network's x0 and its prediction from earlier evaluations measures, at no extra cost, how fast x0 moves and how soon it
turns. It predicts the error of the next gap, as in adaptive ODE solvers (Hairer, Norsett & Wanner, Solving Ordinary
Differential Equations I, sections III.5-7).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver, State

from ...device.readback import Readback
from ..base import Explanation, Mode, Run, require_falling_times, require_steps
from ..history import NodeBuffer
from ..replay import Replay
from ..settings import check_numbers, check_sequence, check_whole
from .error_model import Gaps, Motion
from .kriging import predict


@dataclass(frozen=True)
class Auto:
    """Each sample skips as many evaluations at a time as keep the predicted error of the gap below a tolerance.

    x0(log-SNR) is modelled with an Ornstein-Uhlenbeck velocity (see `kriging`). Skipped x0 are predicted from the last
    true evaluations; once the next evaluation is known, the skipped steps are taken again with interpolated x0. The
    first `warm_up` steps and the last two are evaluated.

    With `speedup` or `budget` the cost is prescribed instead: at every evaluation each sample finds the tolerance,
    starting from `tolerance`, under which the rest of its run is predicted to stay within the budget.

    Attributes:
        tolerance: Root mean square by which one gap may move the final latents (of about unit variance).
        speedup: The solver's evaluations divided by those to be made; at least 1. Excludes `budget`.
        budget: Number of evaluations to be made per sample. Excludes `speedup`.
        nodes: Number of true evaluations from which a skipped x0 is predicted.
        memories: Correlation lengths of the velocity in log-SNR (10 is close to a cubic spline). Each sample uses the
            one that has predicted its evaluations best.
        max_skips: Most evaluations skipped in a row.
        warm_up: Number of steps evaluated at the start, at least 2.
        inertia: Weight of the past in the running averages of errors, from 0 to below 1.
    """

    tolerance: float = 0.003
    speedup: float | None = None
    budget: float | None = None
    nodes: int = 3
    memories: tuple[float, ...] = (0.15, 0.3, 0.6, 10.0)
    max_skips: int = 6
    warm_up: int = 2
    inertia: float = 0.3

    def __post_init__(self) -> None:
        check_numbers(self, "tolerance", least=0)
        check_numbers(self, "speedup", least=1, optional=True)
        check_numbers(self, "budget", above=0, finite=False, optional=True)
        check_numbers(self, "inertia", least=0, below=1)
        check_sequence(self, "memories", above=0)
        check_whole(self, nodes=1, max_skips=1, warm_up=2)
        if self.speedup is not None and self.budget is not None:
            raise ValueError(f"Auto takes a speedup or a budget, not both: {self.speedup} and {self.budget}")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_falling_times(solver, "auto")
        require_steps(solver, "'auto'", self.warm_up + 3)
        budget = solver.n_evals / self.speedup if self.speedup is not None else self.budget
        least = self.warm_up + 2 + math.ceil((solver.n_evals - self.warm_up - 2) / (self.max_skips + 1))
        if budget is not None and not budget >= least:
            raise ValueError(
                f"accelerator 'auto' makes at least {least} of {solver.n_evals} evaluations, asked for {budget:.4g}: "
                "lower speedup, raise budget, or allow more max_skips"
            )
        return _Run(self, solver, shape[0], budget)


class _Run(Run):
    def __init__(self, settings: Auto, solver: Solver, samples: int, budget: float | None) -> None:
        super().__init__(samples)
        self.settings = settings
        self.budget = budget
        self.gaps = Gaps.of(solver, settings.max_skips, settings.nodes)
        self.log_snr = self.gaps.log_snr
        self.tolerances = [settings.tolerance] * samples
        self.used = [0] * samples
        self.nodes = NodeBuffer(settings.nodes + 1, samples)
        self.replay = Replay(solver, samples)
        self.misses: list[list[float]] = [[] for _ in range(samples)]
        self.speeds: list[list[float]] = [[] for _ in range(samples)]
        self.memories = [settings.memories[0]] * samples
        self.lengths = [0] * samples
        self.skip_until = [0] * samples
        self.modes: list[Mode] = []
        self.predicted: list[dict[int, float]] = [{} for _ in range(samples)]

    def plan(self, step: int) -> Sequence[Mode]:
        self.modes = [Mode.EXTRAPOLATED if step < until else Mode.FULL for until in self.skip_until]
        return self.modes

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return torch.stack([self._extrapolated(row, step, self.memories[row]) for row in rows])

    def revise(self, state: State, x0: Tensor) -> State:
        step = state.step
        evaluated = [row for row, mode in enumerate(self.modes) if mode.evaluates]
        errors = self._errors(step, x0, evaluated)
        for row, measured in zip(evaluated, errors, strict=True):
            self.used[row] += 1
            self._learn(row, step, measured)
            self.nodes.push(row, self.log_snr[step], x0[row])
        state = self.replay.corrected(state, evaluated, self._interpolated)
        for row in evaluated:
            if step + 1 >= self.settings.warm_up:
                self.lengths[row] = self._choose(row, step)
                self.skip_until[row] = step + 1 + self.lengths[row]
        return state

    def explain(self, step: int) -> Explanation:
        """The predicted error of the gap that would end with `step` if it were skipped too.

        Under a budget it is scaled by `settings.tolerance` over the sample's present tolerance.
        """
        values = [predicted.get(step, math.nan) for predicted in self.predicted]
        return Explanation("predicted error", self.settings.tolerance, values, [None] * self.samples)

    def _extrapolated(self, row: int, step: int, memory: float) -> Tensor:
        return self._predicted(row, step, memory, self.settings.nodes)

    def _interpolated(self, row: int, step: int) -> Tensor:
        """x0 between evaluations, through the nodes of the extrapolation and the new one."""
        return self._predicted(row, step, self.memories[row], self.settings.nodes + 1)

    def _predicted(self, row: int, step: int, memory: float, count: int) -> Tensor:
        nodes = tuple(self.nodes.times[row][:count])
        return self.nodes.combined(row, predict(nodes, self.log_snr[step], memory).weights)

    def _errors(self, step: int, x0: Tensor, rows: list[int]) -> list[list[float]]:
        """Per row, the RMS errors of extrapolating to `step` with each memory; empty for a sample without nodes."""
        tried = {row: self.settings.memories if self.nodes.count(row) else () for row in rows}
        squares = [
            (self._extrapolated(row, step, memory) - x0[row]).square().mean() for row in rows for memory in tried[row]
        ]
        roots = iter(Readback(torch.stack(squares).sqrt()).read() if squares else [])
        return [[next(roots) for _ in tried[row]] for row in rows]

    def _learn(self, row: int, step: int, measured: list[float]) -> None:
        """Averages the errors of each memory, and the speeds of x0 that they imply, geometrically with the past.

        A speed above the average replaces it at once.
        """
        if not measured:
            return
        inertia, nodes = self.settings.inertia, tuple(self.nodes.times[row][: self.settings.nodes])
        errors = [max(error, 1e-12) for error in measured]
        speeds = [
            error / predict(nodes, self.log_snr[step], memory).spread
            for error, memory in zip(errors, self.settings.memories, strict=True)
        ]
        averaged = _averaged(speeds, self.speeds[row], inertia)
        self.speeds[row] = [max(pair) for pair in zip(speeds, averaged, strict=True)]
        self.misses[row] = _averaged(errors, self.misses[row], inertia)

    def _choose(self, row: int, step: int) -> int:
        """Chooses the memory and the longest gap after `step` whose predicted error is within the tolerance."""
        nodes, before, motion = self.nodes.times[row], self.lengths[row], None
        if self.misses[row]:
            best = self.misses[row].index(min(self.misses[row]))
            self.memories[row] = self.settings.memories[best]
            motion = Motion(self.memories[row], self.speeds[row][best])
            if self.budget is not None:
                left = self.budget - self.used[row]
                self.tolerances[row] = self.gaps.tolerance_for(step, motion, nodes, before, left, self.tolerances[row])
        tolerance = self.tolerances[row]
        scale = self.settings.tolerance / tolerance if tolerance else 1.0
        length = 0
        for gap in self.gaps.tried(step, motion, nodes, before, tolerance):
            self.predicted[row][step + gap.skips] = gap.error * scale
            if gap.error <= tolerance:
                length = gap.skips
        return length


def _averaged(new: Sequence[float], past: Sequence[float], inertia: float) -> list[float]:
    """Geometric means of new values and past values with weight `inertia`; the new values if there are no past ones."""
    return [a ** (1 - inertia) * b**inertia for a, b in zip(new, past or new, strict=True)]
