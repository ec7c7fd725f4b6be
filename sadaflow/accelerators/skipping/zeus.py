"""ZEUS: the network's output is extrapolated at fixed steps (arXiv 2604.01552)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ...device.indexing import taken
from ..base import Mode
from ..fitting import require_falling_times, require_steps
from ..history import Array, NodeBuffer, lagrange
from ..settings import check_choice, check_fractions, check_whole
from .base import OutputRun, Reuse
from .evaluated import Evaluated

_PUBLISHED: Final = 50  # steps that the authors' indices are meant for
_LEAST: Final = 3  # steps evaluated at the start, at least
_WAYS: Final = ("interleaved", "extrapolated", "held")


@dataclass(frozen=True)
class Zeus(Reuse):
    """Skips steps by their number alone, and extrapolates the network's guided output along a line.

    Between the fractions `start` and `end` of the run, step i + 1 is skipped if i modulo `denominator` is one of
    `remainders`; from `polynomial_start` on, unless i is a multiple of `interval`. After `max_skips` skips in a row a
    step is evaluated. The first skipped step of a row takes the extrapolated output; what the others take is `way`.
    From `polynomial_start` on, x0 is that of the polynomial through `terms` nodes. The defaults are those of the
    authors' demos for Stable Diffusion and SDXL at 50 steps; those for Flux.1 have interval 6, terms 3.

    The published code extrapolates from the last output and from the one used a step before it, which may itself have
    been predicted, as if the two were one step apart, and its polynomials run through x0 of skipped steps as well, in
    the index of the step. That is `released`; otherwise both run in log-SNR through true evaluations, and the last
    step is evaluated.

    Attributes:
        reuse: See `Reuse`.
        denominator: Period of the pattern in steps.
        remainders: Steps of the period after which one is skipped.
        start: Fraction of the steps before which all are evaluated.
        polynomial_start: Fraction from which on x0 is a polynomial; `end` for never.
        end: Fraction of the steps from which all are evaluated.
        interval: Distance of evaluations from `polynomial_start` on.
        terms: Number of nodes of the polynomial.
        max_skips: Most steps skipped in a row.
        way: What the skipped steps of a row take: "interleaved" takes the extrapolated and the last output in turn,
            "extrapolated" and "held" one of them.
        released: Whether to extrapolate as the published code does.
    """

    denominator: int = 3
    remainders: tuple[int, ...] = (0, 1)
    start: float = 0.2
    polynomial_start: float = 0.48
    end: float = 0.9
    interval: int = 4
    terms: int = 4
    max_skips: int = 4
    way: str = "interleaved"
    released: bool = False

    def __post_init__(self) -> None:
        check_whole(self, denominator=1, interval=1, terms=1, max_skips=0)
        check_fractions(self, "start", "polynomial_start", "end")
        check_choice(self, "way", _WAYS)
        if not all(remainder in range(self.denominator) for remainder in self.remainders):
            raise ValueError(
                f"Zeus.remainders must be within 0 and {self.denominator - 1} (denominator {self.denominator}), got "
                f"{self.remainders!r}"
            )

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_falling_times(solver, "zeus")
        require_steps(solver, "'zeus'", _LEAST + 2)
        return _Run(self, solver, shape[0])

    def interval_of(self, steps: int) -> int:
        """`interval` in proportion to the number of steps."""
        return self.interval if steps == _PUBLISHED else max(2, round(self.interval * steps / _PUBLISHED))

    def skipped_steps(self, steps: int) -> dict[int, bool]:
        """The skipped ones of `steps` steps, and whether their x0 is a polynomial."""
        first, middle, last = (round(fraction * steps) for fraction in (self.start, self.polynomial_start, self.end))
        interval = self.interval_of(steps)
        found: dict[int, bool] = {}
        in_a_row = 0
        for step in range(1, steps - 1):
            pattern = max(first, _LEAST) <= step < middle and step % self.denominator in self.remainders
            polynomial = max(middle, _LEAST) <= step < last and step % interval != 0
            if in_a_row < self.max_skips and (pattern or polynomial):
                found[step + 1], in_a_row = polynomial, in_a_row + 1
            else:
                in_a_row = 0
        if not self.released:
            found.pop(steps - 1, None)
        return found


class _Run(OutputRun):
    def __init__(self, settings: Zeus, solver: Solver, samples: int) -> None:
        super().__init__(solver, samples, settings.reuse)
        self.interval = settings.interval_of(solver.n_evals)
        self.settings, self.skips = settings, settings.skipped_steps(solver.n_evals)
        released = settings.released
        self.at = [float(step) if released else node.log_snr for step, node in enumerate(solver.nodes)]
        self.outputs = NodeBuffer(2, samples)
        """The last evaluated output, and the one before it: the used one of the step before if `released`."""
        self.clean = NodeBuffer(settings.terms, samples)
        self.used: Tensor | None = None
        self.in_a_row = 0
        self.evaluated = Evaluated(samples)

    def plan(self, step: int) -> Sequence[Mode]:
        return self.evaluated.plan(step not in self.skips, Mode.MULTISTEP if self.skips.get(step) else Mode.REUSED)

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        if self.skips[step] and self.clean.counts[np.asarray(rows)].min() > 0:
            return self.clean.at(rows, self.at[step])
        output = self.outputs.combined(rows, self._weights(step, rows))
        return self.x0_of(output, taken(x, rows), step)

    def _weights(self, step: int, rows: Sequence[int]) -> Array:
        """Weights of the last output and the one before it at a skipped step."""
        times = self.outputs.times[np.asarray(rows)]
        odd = self.in_a_row % 2 == 0  # the first of the row, the third, ...
        if self.settings.way == "held" or (self.settings.way == "interleaved" and not odd):
            return lagrange(np.where(np.arange(2) == 0, times, math.nan), self.at[step])
        if self.settings.released:
            return np.where(np.isfinite(times[:, 1:]), [2.0, -1.0], [1.0, 0.0])
        return lagrange(times, self.at[step])

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        rows, released = self.evaluated.rows, self.settings.released
        self.in_a_row = self.in_a_row + 1 if step in self.skips else 0
        self._keep_clean(step, x0)
        if not rows and not released:
            return
        output = self.output(x, x0, step)
        if rows:
            if released and self.used is not None and step not in self.skips:
                self.outputs.push(rows, step - 0.5, taken(self.used, rows))
            self.outputs.push(rows, self.at[step], taken(output, rows))
        self.used = output

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.evaluated.edited(rows)
        for nodes in (self.outputs, self.clean):
            nodes.forget(rows)

    def _keep_clean(self, step: int, x0: Tensor) -> None:
        """Keeps nodes of the polynomial: every evaluation, or as the published code every `interval`-th step."""
        rows = self.evaluated.rows
        if self.settings.released and step % self.interval == 1 % self.interval:
            rows = range(self.samples)
        elif self.settings.released and step not in self.skips:
            rows = ()
        if rows:
            self.clean.push(rows, self.at[step], taken(x0, rows))
