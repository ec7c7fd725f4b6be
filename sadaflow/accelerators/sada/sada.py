"""SADA: stability-guided adaptive diffusion acceleration (Jiang et al., ICML 2025, arXiv 2507.17135)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.solvers import Solver

from ...device.indexing import renewed, taken
from ...device.readback import Readback
from ..base import Explanation, Mode, Run
from ..fitting import WITHOUT, require_falling_times
from ..history import NodeBuffer
from ..settings import check_choice, check_fractions, check_sequence, check_whole
from .criterion import (
    change_scores,
    extrapolate,
    instability,
    noise_of,
    sample_scores,
    stepwise_x0,
    token_scores,
)
from .estimators import Estimator, known_estimator
from .limits import Limits
from .token_cache import KEYS, Size, TokenCache

RANKS = ("criterion", "change")
_REFERENCE_STEPS = 50  # the step count for which the paper states `interval` and `max_skips`


@dataclass(frozen=True)
class SADA:
    """Settings of SADA. The defaults are the paper's for U-Nets, and scale with the number of steps.

    From `start` to `multistep_start` the stability criterion decides for each sample: a stable sample skips the next
    step with the step-wise estimate; an unstable one evaluates it, on the unstable tokens only where that is possible.
    From there to `end` every `interval`-th step is evaluated, and x0 between is the Lagrange polynomial in t through
    the last nodes. The other steps are evaluated.

    Attributes:
        start: Fraction of the steps from which the criterion decides.
        multistep_start: Fraction of the steps from which every `interval`-th step is evaluated.
        end: Fraction of the steps from which every step is evaluated.
        max_skips: Most consecutive skips at 50 steps, in proportion at others.
        interval: Distance between evaluations in the multistep part at 50 steps, in proportion at others.
        terms: Number of nodes of the Lagrange polynomial.
        estimator: Name in `ESTIMATORS` of what extrapolates the state over a skipped step.
        weights: Weights of the three newest velocities, in place of an estimator's.
        tokens: Whether to prune tokens; needs a denoiser that lets a seam into its network.
        token_depth: Prune down to this many downsamplings below the latent's resolution.
        token_trunk: Whether to prune transformers such as Flux too. The paper does not, and the keys and values of all
            blocks take memory.
        token_cell: One token of each cell of this side length is always computed.
        token_limit: Most unstable tokens computed in a pruned block.
        token_keys: Keys and values of pruned tokens: "cached", those they last had, or "dropped", none, as in the
            paper.
        token_rank: Which tokens are computed: "criterion", the unstable ones, as in the paper, or "change", as many of
            those whose velocity changed most since the step before.
        token_memory: Most bytes that cached tokens may take, for the whole batch; blocks without room are not pruned.
            None: no bound but that of `TokenCache`, which does not grow with the steps.
    """

    start: float = 0.2
    multistep_start: float = 0.48
    end: float = 0.94
    max_skips: int = 4
    interval: int = 4
    terms: int = 4
    estimator: str = "paper"
    weights: tuple[float, ...] | None = None
    tokens: bool = True
    token_depth: int = 0
    token_trunk: bool = False
    token_cell: int = 3
    token_limit: int = 5 * 1024
    token_keys: str = "cached"
    token_memory: int | None = None
    token_rank: str = "criterion"

    def __post_init__(self) -> None:
        check_fractions(self, "start", "multistep_start", "end")
        check_whole(self, max_skips=1, interval=2, terms=2, token_depth=0, token_cell=1, token_limit=1)
        check_whole(self, optional=True, token_memory=0)
        check_choice(self, "token_keys", KEYS)
        check_choice(self, "token_rank", RANKS)
        known_estimator(self.estimator)
        if self.weights is None:
            return
        check_sequence(self, "weights")
        if len(self.weights) != 3:
            raise ValueError(f"SADA.weights must hold one weight for each of three velocities, got {len(self.weights)}")
        if self.estimator != "paper":
            raise ValueError(f"SADA takes either estimator={self.estimator!r} or weights={self.weights}, not both")

    def extrapolation(self) -> Estimator:
        """The estimator that these settings name, or one that returns `weights`."""
        own = self.weights
        return known_estimator(self.estimator) if own is None else lambda times, end: own

    def limits(self, steps: int) -> Limits:
        """The settings in steps, for a run of `steps` steps.

        Raises:
            ValueError: if the run is too short to skip anything, with the number of steps that it needs.
        """
        limits = self._scaled(steps)
        if limits.usable:
            return limits
        enough = next((n for n in range(steps + 1, 1001) if self._scaled(n).usable), None)
        needs = f"it needs at least {enough}" if enough else "no number of steps allows a skip with these fractions"
        raise ValueError(
            f"accelerator 'sada' with start={self.start}, end={self.end} cannot work with {steps} steps: {needs}; "
            f"{WITHOUT}"
        )

    def _scaled(self, steps: int) -> Limits:
        scale = steps / _REFERENCE_STEPS
        return Limits(
            first=round(self.start * steps),
            multistep=round(self.multistep_start * steps),
            end=round(self.end * steps),
            interval=max(2, round(self.interval * scale)),
            max_skips=max(1, round(self.max_skips * scale)),
        )

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, self.limits(solver.n_evals), solver, shape, seams=seams)


class _Run(Run):
    def __init__(self, settings: SADA, limits: Limits, solver: Solver, shape: torch.Size, *, seams: bool) -> None:
        super().__init__(shape[0])
        self.settings, self.limits, self.solver = settings, limits, solver
        self.estimator = settings.extrapolation()
        require_falling_times(solver, "sada")
        spatial = seams and settings.tokens and len(shape) in (4, 5)
        how = (settings.token_depth, settings.token_memory, settings.token_keys, settings.token_trunk)
        self.cache = TokenCache(self.samples, *how) if spatial else None
        self.nodes = NodeBuffer(settings.terms, self.samples)
        self.modes = [Mode.FULL] * self.samples
        self.skips = [0] * self.samples
        self.node_steps = np.full(self.samples, -limits.interval)
        self.full_until = np.zeros(self.samples, dtype=np.int64)
        """First step that may be skipped after an edit: the criterion needs three velocities of the edited states."""
        self.velocities: tuple[Tensor, ...] = ()
        self.eps: Tensor | None = None
        self.predicted: Tensor | None = None
        self.scores: Tensor | None = None
        # The criterion, and numbers of unstable tokens at `sizes`: read together when the next step is planned.
        self.pending: Readback | None = None
        self.sizes: tuple[Size, ...] = ()
        self.unstable: dict[Size, list[float]] = {}
        self.values = [math.nan] * self.samples

    def plan(self, step: int) -> Sequence[Mode]:
        self.values = [math.nan] * self.samples
        if self.pending is not None:
            numbers, count = self.pending.read(), self.samples
            self.values = numbers[:count]
            self.unstable = {size: numbers[k * count :][:count] for k, size in enumerate(self.sizes, start=1)}
        self.modes = self._decide(step)
        return self.modes

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        node = self.solver.nodes[step]
        if step >= self.limits.multistep:
            return self.nodes.at(rows, node.t)
        assert self.predicted is not None and self.eps is not None
        return stepwise_x0(taken(self.predicted, rows), taken(self.eps, rows), node.alpha, node.sigma)

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        if self.cache is None:
            return call_through
        if mode is Mode.TOKENS:
            assert self.scores is not None
            unstable = {size: [counts[row] for row in rows] for size, counts in self.unstable.items()}
            cell, limit = self.settings.token_cell, self.settings.token_limit
            return self.cache.pruning(rows, taken(self.scores, rows), cell, limit, unstable)
        fill = self.limits.first - 1 <= step < self.limits.multistep - 1
        return self.cache.filling(rows) if fill else call_through

    def explain(self, step: int) -> Explanation:
        cache = self.cache
        masks = [cache.computed(row) if cache and mode is Mode.TOKENS else None for row, mode in enumerate(self.modes)]
        return Explanation("stability criterion", 0.0, self.values, masks)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        evaluated = [row for row, mode in enumerate(self.modes) if mode.evaluates]
        self.skips = [0 if mode.evaluates else skips + 1 for mode, skips in zip(self.modes, self.skips, strict=True)]
        self.velocities = (y, *self.velocities)[:3]
        self._remember(step, x, x0, evaluated)
        self.pending = None
        if self.limits.first <= step + 1 < self.limits.multistep:
            times = [self.solver.nodes[past].t for past in (step, step - 1, step - 2)]
            end = self.solver.nodes[step + 1].t
            self.predicted = extrapolate(x, self.velocities, end - times[0], self.estimator(times, end))
            scores = instability(x_next, self.predicted, self.velocities)
            counts: dict[Size, Tensor] = {}
            if self.cache is not None:
                self.scores = token_scores(scores)
                if self.settings.token_rank == "change":
                    self.scores = change_scores(self.scores, self.velocities)
                counts = self.cache.unstable(self.scores, self.settings.token_cell)
            self.sizes, self.pending = tuple(counts), sample_scores(scores, *counts.values())

    def edited(self, step: int, rows: Sequence[int]) -> None:
        index = np.asarray(rows, dtype=np.int64)
        self.full_until[index], self.node_steps[index] = step + 4, -self.limits.interval
        self.nodes.forget(rows)

    def _remember(self, step: int, x: Tensor, x0: Tensor, evaluated: list[int]) -> None:
        """Stores what true evaluations yield: the noise to reuse, and nodes `interval` steps apart."""
        node = self.solver.nodes[step]
        if step < self.limits.multistep and evaluated:
            self.eps = renewed(self.eps, noise_of(x, x0, node.alpha, node.sigma), evaluated)
        apart = [row for row in evaluated if step - self.node_steps[row] >= self.limits.interval]
        if apart:
            self.nodes.push(apart, node.t, taken(x0, apart))
            self.node_steps[apart] = step

    def _decide(self, step: int) -> list[Mode]:
        """The modes of `step`, from the criterion's values."""
        limits = self.limits
        if not limits.first <= step < limits.end:
            return [Mode.FULL] * self.samples
        if step >= limits.multistep:
            known = self.nodes.counts >= 2
            due = (step - limits.multistep) % limits.interval == 0
            return [Mode.MULTISTEP if enough and not due else Mode.FULL for enough in known.tolist()]
        fresh = (step < self.full_until).tolist()
        return [Mode.FULL if edited else self._stepwise(row) for row, edited in enumerate(fresh)]

    def _stepwise(self, row: int) -> Mode:
        """The mode of a sample where the criterion decides."""
        if self.values[row] < 0:
            return Mode.STEPWISE if self.skips[row] < self.limits.max_skips else Mode.FULL
        return self._unstable(row)

    def _unstable(self, row: int) -> Mode:
        return Mode.TOKENS if self.cache is not None and self.cache.holds(row) else Mode.FULL
