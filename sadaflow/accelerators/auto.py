"""Error-controlled skipping: x0 as a multistep polynomial in log-SNR, with predictor, corrector and step-size control.

Skipping evaluations is taking a larger step of a multistep method. At every true evaluation the difference between the
network's x0 and its extrapolation from earlier ones is, for free, a divided difference of x0(log_snr); it predicts the
errors of the gap to come (Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, sections III.5-7).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver, State

from .base import Explanation, Mode, PlainRun, require_falling_times
from .gaps import Gaps, distance
from .nodes import NodeBuffer
from .replay import Replay


@dataclass(frozen=True)
class Auto:
    """Each sample skips as many evaluations at a time as keep the predicted error of the gap under `tolerance`.

    `tolerance` is the root mean square by which one gap may move the final latents (of about unit variance). Skipped
    x0 are extrapolated in log-SNR through the last true evaluations, with the degree up to `max_order` that errs least;
    terms above the linear one count `damping` times each degree, because only a part of a curvature lasts over a gap.
    The steps are taken again with interpolated x0 once the next evaluation is known. The first `warm_up` steps and
    the last two are evaluated. `inertia` is the weight of the past in the estimate of x0's divided differences.

    `budget` evaluations, or as many as `speedup` leaves of the solver's, ask for a cost instead: at every evaluation
    each sample finds the tolerance, from `tolerance` on, under which the rest of the run is predicted to keep to it.
    """

    tolerance: float = 0.003
    speedup: float | None = None
    budget: float | None = None
    max_order: int = 2
    max_skips: int = 6
    warm_up: int = 2
    inertia: float = 0.3
    damping: float = 0.5

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"Auto.tolerance must be finite and not negative, got {self.tolerance}")
        if self.speedup is not None and self.budget is not None:
            raise ValueError(f"Auto takes a speedup or a budget, not both: {self.speedup} and {self.budget}")
        if self.speedup is not None and not 1 <= self.speedup < math.inf:
            raise ValueError(f"Auto.speedup must be at least 1, got {self.speedup}")
        if not 0 <= self.inertia < 1:
            raise ValueError(f"Auto.inertia must be at least 0 and below 1, got {self.inertia}")
        if not 0 <= self.damping <= 1:
            raise ValueError(f"Auto.damping must be from 0 to 1, got {self.damping}")
        for field, least in (("max_order", 1), ("max_skips", 1), ("warm_up", 2)):
            if getattr(self, field) < least:
                raise ValueError(f"Auto.{field} must be at least {least}, got {getattr(self, field)}")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_falling_times(solver, "auto")
        needed = self.warm_up + 3
        if solver.n_evals < needed:
            raise ValueError(f"accelerator 'auto' needs at least {needed} steps, got {solver.n_evals}")
        budget = solver.n_evals / self.speedup if self.speedup is not None else self.budget
        least = self.warm_up + 2 + math.ceil((solver.n_evals - self.warm_up - 2) / (self.max_skips + 1))
        if budget is not None and not budget >= least:
            raise ValueError(
                f"accelerator 'auto' makes at least {least} of {solver.n_evals} evaluations, asked for {budget:.4g}: "
                "lower speedup, raise budget, or allow more max_skips"
            )
        return _Run(self, solver, shape[0], budget)


class _Run(PlainRun):
    def __init__(self, settings: Auto, solver: Solver, samples: int, budget: float | None) -> None:
        super().__init__(samples)
        self.settings = settings
        self.budget = budget
        self.gaps = Gaps.of(solver, settings.max_skips)
        self.log_snr = self.gaps.log_snr
        self.tolerances = [settings.tolerance] * samples
        self.used = [0] * samples
        self.nodes = NodeBuffer(settings.max_order + 2, samples)
        self.replay = Replay(solver, samples)
        self.constants: list[dict[int, float]] = [{} for _ in range(samples)]
        self.degrees = [1] * samples
        self.lengths = [0] * samples
        self.skip_until = [0] * samples
        self.modes: list[Mode] = []
        self.predicted: list[dict[int, float]] = [{} for _ in range(samples)]

    def plan(self, step: int) -> Sequence[Mode]:
        self.modes = [Mode.EXTRAPOLATED if step < until else Mode.FULL for until in self.skip_until]
        return self.modes

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return torch.cat([self._extrapolated(row, step, self.degrees[row]) for row in rows])

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
                self.degrees[row], self.lengths[row] = self._choose(row, step)
                self.skip_until[row] = step + 1 + self.lengths[row]
        return state

    def explain(self, step: int) -> Explanation:
        """The predicted error of the gap that ends with `step`, had it been skipped too.

        Under a budget it is scaled as if the tolerance of the moment were the settings'.
        """
        values = [predicted.get(step, math.nan) for predicted in self.predicted]
        return Explanation("predicted error", self.settings.tolerance, values, [None] * self.samples)

    def _extrapolated(self, row: int, step: int, degree: int) -> Tensor:
        return self.nodes.at([row], self.log_snr[step], degree + 1, self.settings.damping)

    def _interpolated(self, row: int, step: int) -> Tensor:
        """Through the nodes of the extrapolation and the new one."""
        return self.nodes.at([row], self.log_snr[step], self.degrees[row] + 2)[0]

    def _errors(self, step: int, x0: Tensor, rows: list[int]) -> list[list[float]]:
        """Per row, the RMS errors of extrapolating to `step` with degree 1, 2, ... as far as its nodes allow.

        Of holding the value, degree 0, where there is but one node.
        """
        squares: list[list[Tensor]] = []
        for row in rows:
            highest = min(self.nodes.count(row) - 1, self.settings.max_order)
            degrees = range(min(1, highest), highest + 1) if highest >= 0 else ()
            guesses = [self._extrapolated(row, step, degree)[0] for degree in degrees]
            squares.append([(guess - x0[row]).square().mean() for guess in guesses])
        flat = [value for values in squares for value in values]
        roots = iter(torch.stack(flat).sqrt().tolist() if flat else [])  # the one transfer from the device
        return [[next(roots) for _ in values] for values in squares]

    def _learn(self, row: int, step: int, measured: list[float]) -> None:
        """Turn errors of degree 1, 2, ... at `step` into divided differences: larger ones are believed at once,
        smaller ones averaged with the past in the logarithm. That of degree 0 serves until another is known."""
        past, known = self.nodes.times[row], self.constants[row]
        if len(past) > 1:
            known.pop(0, None)
        for degree, error in enumerate(measured, start=min(1, len(past) - 1)):
            constant = max(error, 1e-12) / distance(self.log_snr[step], past[: degree + 1])
            inertia = self.settings.inertia
            averaged = constant ** (1 - inertia) * known.get(degree, constant) ** inertia
            known[degree] = max(constant, averaged)

    def _choose(self, row: int, step: int) -> tuple[int, int]:
        """Degree and length of the longest gap after `step` whose predicted error is within the tolerance."""
        constants, nodes, best = self.constants[row], self.nodes.times[row], (1, 0)
        before = self.lengths[row]
        if self.budget is not None and constants:
            left = self.budget - self.used[row]
            self.tolerances[row] = self.gaps.tolerance_for(step, constants, nodes, before, left, self.tolerances[row])
        tolerance = self.tolerances[row]
        scale = self.settings.tolerance / tolerance if tolerance else 1.0
        for gap in self.gaps.tried(step, constants, nodes, before, tolerance):
            self.predicted[row][step + gap.skips] = gap.error * scale
            if gap.error <= tolerance:
                best = (max(1, gap.degree), gap.skips)
        return best
