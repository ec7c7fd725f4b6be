"""Error-controlled skipping: x0 is predicted from the last evaluations, and each gap is as long as its error allows.

Skipping evaluations amounts to a larger step of a multistep method. At every true evaluation the difference between the
network's x0 and its prediction from earlier evaluations measures, at no extra cost, how fast x0 moves and how soon it
turns. It predicts the error of the next gap, as in adaptive ODE solvers (Hairer, Norsett & Wanner, Solving Ordinary
Differential Equations I, sections III.5-7).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver, State

from ...device.indexing import taken
from ...device.readback import Readback
from ..base import Explanation, Mode, Run
from ..fitting import require_falling_times, require_steps
from ..history import Array, NodeBuffer
from ..replay import Replay
from ..settings import check_numbers, check_sequence, check_whole
from .budget import Forecast
from .calibration import Calibration
from .cost import TYPICAL_MEMORY, Cost, fewest_evaluations, least_evaluations, typical_tolerance
from .error_model import MEASURED, Gaps, Situation, Whole, longest_within
from .kriging import predict
from .motion import Motions
from .planned import PlannedRun
from .plans import Fork


@dataclass(frozen=True)
class Auto:
    """Each sample skips as many evaluations at a time as keep the predicted error of the gap below a tolerance.

    x0(log-SNR) is modelled with an Ornstein-Uhlenbeck velocity (see `kriging`). Skipped x0 are predicted from the last
    true evaluations; once the next evaluation is known, the skipped steps are taken again with interpolated x0. The
    first `warm_up` steps and the last two are evaluated.

    With `speedup` or `budget` the mean cost is prescribed instead: hard samples get more evaluations than easy ones.
    The tolerance is then read off the cost curve of a `Calibration`. Without one it is that of a typical network, which
    each sample corrects as it proceeds. At low cost a calibration has plans, which replace error control: searched sets
    of steps, each with a linear multistep method that was fitted to it (see `plans`).

    Attributes:
        tolerance: Twice the root mean square by which one gap may move the final latents (of about unit variance).
        speedup: The solver's evaluations divided by those to be made in the mean over samples; at least 1. Excludes
            `budget`.
        budget: Number of evaluations to be made in the mean over samples. Excludes `speedup`.
        max_nfe: Most evaluations of any sample; None for any number.
        nodes: Number of true evaluations from which a skipped x0 is predicted.
        memories: Correlation lengths of the velocity in log-SNR (10 is close to a cubic spline). Each sample uses the
            one that has predicted its evaluations best.
        max_skips: Most evaluations skipped in a row.
        warm_up: Number of steps evaluated at the start, at least 2.
        inertia: Weight of the past in the running averages of errors, from 0 to below 1.
        calibration: Measured gains and costs; it must fit the solver. None takes the denoiser's own, if one of them
            fits, or formulas.
    """

    tolerance: float = 0.003
    speedup: float | None = None
    budget: float | None = None
    nodes: int = 3
    memories: tuple[float, ...] = (0.15, 0.3, 0.6, 10.0)
    max_skips: int = 6
    warm_up: int = 2
    inertia: float = 0.3
    max_nfe: int | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        check_numbers(self, "tolerance", least=0)
        check_numbers(self, "speedup", least=1, optional=True)
        check_numbers(self, "budget", above=0, finite=False, optional=True)
        check_numbers(self, "inertia", least=0, below=1)
        check_sequence(self, "memories", above=0)
        check_whole(self, nodes=1, max_skips=1, warm_up=2)
        check_whole(self, optional=True, max_nfe=1)
        if self.speedup is not None and self.budget is not None:
            raise ValueError(f"Auto takes a speedup or a budget, not both: {self.speedup} and {self.budget}")

    def calibrated(self, calibrations: Sequence[Any], solver: Solver) -> "Auto":
        """These settings with the first calibration that fits a solver, unless `calibration` is given."""
        fitting = (found for found in calibrations if isinstance(found, Calibration) and found.misfit(solver) is None)
        return self if self.calibration is not None else replace(self, calibration=next(fitting, None))

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        require_falling_times(solver, "auto")
        require_steps(solver, "'auto'", self.warm_up + 3)
        if self.calibration is not None and (reason := self.calibration.misfit(solver)):
            raise ValueError(f"the calibration does not fit: {reason}; make one with `sadaflow calibrate`")
        if (mean := self._mean(solver.n_evals)) is not None and (fork := self._fork(mean)) is not None:
            return PlannedRun(solver, shape[0], fork, mean)
        measured = None if self.calibration is None else [MEASURED * gain for gain in self.calibration.gains]
        gaps = Gaps.of(solver, self.max_skips, self.nodes, measured)
        return _Run(self, solver, shape[0], gaps, self._cost(gaps))

    def _mean(self, steps: int) -> float | None:
        """Evaluations asked for in the mean over samples."""
        return steps / self.speedup if self.speedup is not None else self.budget

    def _fork(self, mean: float) -> Fork | None:
        """The plans for `mean` evaluations, within `max_nfe`; None if error control is to be used."""
        if self.calibration is None:
            return None
        fork = self.calibration.fork_for(mean, self.shape_settings())
        return None if fork is None else fork.up_to(self.max_nfe)

    def _cost(self, gaps: Gaps) -> Cost:
        """The cost that is asked for; raises ValueError if it is below what is possible."""
        mean = self._mean(gaps.steps)
        fewest, remedy = fewest_evaluations(gaps, self.warm_up), "lower speedup, raise budget"
        if self.calibration is not None and self.calibration.planned(self.shape_settings()):
            fewest = min(fewest, int(self.calibration.least))
        else:
            remedy += ", measure plans of fewer by `sadaflow calibrate`"
        limits = (
            (mean, fewest, remedy),
            (self.max_nfe, least_evaluations(gaps, self.warm_up), "raise max_nfe"),
        )
        for asked, least, remedy in limits:
            if asked is not None and not asked >= least:
                raise ValueError(
                    f"accelerator 'auto' makes at least {least} of {gaps.steps} evaluations, asked for {asked:.4g}: "
                    f"{remedy}, or allow more max_skips"
                )
        forecast = curve = None
        if mean is None or mean >= gaps.steps:
            mean, tolerance = None, self.tolerance if mean is None else 0.0
        elif self.calibration is not None and self.calibration.covers(mean, self.shape_settings()):
            curve, tolerance = self.calibration, self.calibration.tolerance_for(mean)
        else:
            forecast = Forecast.of(gaps, (*self.memories, TYPICAL_MEMORY))
            tolerance = typical_tolerance(gaps, forecast, self.warm_up, mean)
        if self.max_nfe is not None and forecast is None:
            forecast = Forecast.of(gaps, self.memories)
        return Cost(mean, self.max_nfe, tolerance, forecast, curve)

    def fewest_evaluations(self, solver: Solver) -> int:
        """Evaluations that a run makes under an unlimited tolerance; errors are those of `begin`."""
        self.begin(solver, torch.Size((1, 1)), seams=True)
        return fewest_evaluations(Gaps.of(solver, self.max_skips, self.nodes), self.warm_up)

    def shape_settings(self) -> dict[str, Any]:
        """The settings that a cost curve depends on, by name."""
        return {name: getattr(self, name) for name in ("nodes", "memories", "max_skips", "warm_up", "inertia")}


class _Run(Run):
    def __init__(self, settings: Auto, solver: Solver, samples: int, gaps: Gaps, cost: Cost) -> None:
        super().__init__(samples)
        self.settings = settings
        self.gaps = gaps
        self.cost = cost
        self.motions = Motions(settings.memories, settings.inertia, samples)
        self.nodes = NodeBuffer(settings.nodes + 1, samples)
        self.replay = Replay(solver, samples)
        self.used = np.zeros(samples, dtype=np.int64)
        self.lengths = np.zeros(samples, dtype=np.int64)
        self.skip_until = np.zeros(samples, dtype=np.int64)
        self.evaluated: list[int] = []
        # By steps after each sample's evaluation at `last`: weights that predict x0, and predicted errors of gaps.
        self.last = np.full(samples, -1)
        self.weights: Array = np.zeros((samples, settings.max_skips, settings.nodes))
        self.errors: Array = np.full((samples, settings.max_skips), np.nan)
        self.explained: Array = np.full(samples, np.nan)

    def plan(self, step: int) -> Sequence[Mode]:
        skipped = (step < self.skip_until).tolist()
        self.evaluated = [row for row, skips in enumerate(skipped) if not skips]
        return [Mode.EXTRAPOLATED if skips else Mode.FULL for skips in skipped]

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        index = np.asarray(rows)
        return self.nodes.combined(rows, self.weights[index, step - self.last[index] - 1])

    def revise(self, state: State, x0: Tensor) -> State:
        rows, step = self.evaluated, state.step
        if not rows:
            return state
        index, fresh = np.asarray(rows), taken(x0, rows)
        self._learn(index, step, fresh)
        self.nodes.push(rows, float(self.gaps.log_snr[step]), fresh)
        state = self.replay.corrected(state, rows, self._interpolated)
        self.used[index] += 1
        if step + 1 >= self.settings.warm_up:
            self._choose(index, step)
        return state

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.nodes.forget(rows)
        self.replay.forget(rows)
        index = np.asarray(rows, dtype=np.int64)
        self.skip_until[index], self.lengths[index] = step + 1, 0

    def explain(self, step: int) -> Explanation:
        """The predicted error of the gap that would end with `step` if it were skipped too.

        Under a budget it is scaled by `settings.tolerance` over the sample's present tolerance.
        """
        values = np.where(self.last == step, self.explained, self._error_at(step, np.arange(self.samples)))
        return Explanation("predicted error", self.settings.tolerance, values.tolist(), [None] * self.samples)

    def _error_at(self, step: int, index: Whole) -> Array:
        """The predicted error of the gap of the samples `index` that would end with `step`; nan if it was not tried."""
        ahead = step - self.last[index] - 1
        errors = self.errors[index, np.minimum(ahead, self.settings.max_skips - 1)]
        return np.where(ahead < self.settings.max_skips, errors, np.nan)

    def _interpolated(self, rows: Sequence[int], steps: Sequence[int]) -> Iterator[Tensor]:
        """x0 between evaluations, through the nodes of the extrapolation and the new one."""
        index = np.asarray(rows)
        found = predict(self.nodes.times[index], self.gaps.log_snr[list(steps)], self.motions.memory[index])
        return self.nodes.series(rows, found.weights.swapaxes(0, 1))

    def _learn(self, index: Whole, step: int, x0: Tensor) -> None:
        """Learns from how far x0 (R, ...) of the samples `index` is from its predictions."""
        known = np.isfinite(self.nodes.times[index, 0])
        if not known.any():
            return  # no sample has a node before the first finite log-SNR, and none after it was edited
        if not known.all():
            index, x0 = index[known], taken(x0, np.flatnonzero(known).tolist())
        nodes, at = self.nodes.times[index, : self.settings.nodes], self.gaps.log_snr[step : step + 1]
        found = predict(nodes, at, self.motions.memories[:, None])
        distances = self.nodes.distances(index.tolist(), found.weights[:, :, 0], x0)
        errors = np.array(Readback(distances).read()).reshape(distances.shape)
        self.motions.learn(index, errors.T, found.spread[:, :, 0].T)

    def _choose(self, index: Whole, step: int) -> None:
        """Chooses memories and the longest gaps after `step` whose predicted errors are within the tolerance."""
        self.motions.choose(index)
        memory, speed = self.motions.memory[index], self.motions.speed[index]
        steps = np.full(len(index), step)
        now = Situation(steps, self.nodes.times[index], self.lengths[index], memory, speed)
        tolerance, ahead = self.cost.tolerances(self.gaps, now, self.used[index]), self.gaps.ahead(now)
        errors = self.gaps.errors(now, ahead)
        lengths = np.maximum(longest_within(errors, tolerance), self.cost.shortest(self.gaps, steps, self.used[index]))
        tried = np.arange(errors.shape[1]) <= lengths[:, None]
        scale = np.divide(self.settings.tolerance, tolerance, out=np.ones_like(tolerance), where=tolerance > 0)
        self.explained[index] = self._error_at(step, index)
        self.errors[index], self.weights[index] = np.where(tried, errors * scale[:, None], np.nan), ahead.weights
        self.last[index], self.lengths[index], self.skip_until[index] = step, lengths, step + 1 + lengths
