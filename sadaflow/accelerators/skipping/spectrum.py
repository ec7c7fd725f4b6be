"""Spectrum: the network's output is a sum of Chebyshev polynomials in time (CVPR 2026, arXiv 2603.01623)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ...device.indexing import index_of, sent, taken
from ..base import Mode
from ..fitting import require_falling_times, require_steps
from ..history import Array, NodeBuffer
from ..predictors import chebyshev_basis, positions
from ..settings import check_fractions, check_numbers, check_whole
from ..steps.spectrum_steps import spectrum_steps
from .base import OutputRun, Reuse
from .evaluated import Evaluated


@dataclass(frozen=True)
class Spectrum(Reuse):
    """Fits Chebyshev polynomials to all evaluated outputs by ridge regression, and evaluates ever fewer steps.

    The first `warmup` steps are evaluated, then the last of every window of steps; each window is `flex` longer than
    the one before it. A skipped output is `blend` times the regression, plus the rest of the line through the last two
    evaluated outputs, both in the index of the step. The defaults are those of the authors' code, which forecasts the
    input of the network's last layers; here it is the guided output. stable-diffusion.cpp has reuse="x0", blend=0.4,
    degree=3, ridge=1.0, flex=0.5, warmup=4, end=0.9. The published time assumes 50 steps, whatever their number.

    Memory: `degree` + 3 latents per sample, whatever the number of steps.

    Attributes:
        reuse: See `Reuse`; the prediction type of the outputs.
        degree: Highest polynomial.
        ridge: Weight of the squared coefficients.
        blend: Share of the regression; the paper's is 1, the authors' scripts have 0.5.
        window: Length of the first window in steps, rounded down.
        flex: Growth of the window with each evaluation.
        warmup: Number of steps evaluated at the start.
        end: Fraction of the steps from which all are evaluated.
        last: Number of steps evaluated at the end; 0 in the published code.
    """

    degree: int = 4
    ridge: float = 0.1
    blend: float = 0.5
    window: float = 2.0
    flex: float = 0.75
    warmup: int = 5
    end: float = 1.0
    last: int = 1

    def __post_init__(self) -> None:
        check_whole(self, degree=0, warmup=2, last=0)
        check_numbers(self, "ridge", above=0)
        check_numbers(self, "window", least=1)
        check_numbers(self, "flex", least=0)
        check_fractions(self, "blend")
        check_fractions(self, "end")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_falling_times(solver, "spectrum")
        require_steps(solver, f"'spectrum' with warmup={self.warmup}", self.warmup + 2)
        return _Run(self, solver, shape[0])

    def evaluated_steps(self, steps: int) -> frozenset[int]:
        """The evaluated ones of `steps` steps."""
        last = max(self.last, steps - int(self.end * steps))
        return spectrum_steps(steps, window=self.window, flex=self.flex, warmup=self.warmup, last=last)


class _Run(OutputRun):
    def __init__(self, settings: Spectrum, solver: Solver, samples: int) -> None:
        super().__init__(solver, samples, settings.reuse)
        self.settings = settings
        self.steps = settings.evaluated_steps(solver.n_evals)
        self.evaluated = Evaluated(samples)
        self.fit = ChebyshevFit(settings.degree, settings.ridge, samples)
        self.past = NodeBuffer(2, samples)
        self.at = positions(solver, "unit")

    def plan(self, step: int) -> Sequence[Mode]:
        return self.evaluated.plan(step in self.steps, Mode.REUSED)

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        blend, at = self.settings.blend, self.at[step]
        line = self.past.at(rows, at)
        output = torch.lerp(line, self.fit.at(rows, at).to(line.dtype), blend)
        return self.x0_of(output, taken(x, rows), step)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        rows = self.evaluated.rows
        if rows:
            output = taken(self.output(x, x0, step), rows)
            self.past.push(rows, self.at[step], output)
            self.fit.add(rows, self.at[step], output)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.evaluated.edited(rows)
        self.past.forget(rows)
        self.fit.forget(rows)


class ChebyshevFit:
    """A ridge regression on Chebyshev polynomials for each sample, which keeps sums in place of the values.

    Args:
        degree: Highest polynomial.
        ridge: Weight of the squared coefficients.
        samples: Number of samples, B.
    """

    def __init__(self, degree: int, ridge: float, samples: int) -> None:
        self.degree = degree
        self._empty: Array = ridge * np.eye(degree + 1)
        self._gram: Array = np.tile(self._empty, (samples, 1, 1))
        self._sums: list[Tensor] = []

    def add(self, rows: Sequence[int], at: float, values: Tensor) -> None:
        """Adds values (len(rows), ...) of the samples `rows` at a position within -1 and 1."""
        basis = chebyshev_basis(at, self.degree)
        self._gram[np.asarray(rows)] += np.outer(basis, basis)
        exact = values.to(torch.promote_types(values.dtype, torch.float32))
        if not self._sums:
            self._sums = [exact.new_zeros((len(self._gram), *values.shape[1:])) for _ in basis]
        for total, weight in zip(self._sums, basis.tolist(), strict=True):
            if weight and len(rows) == len(total):
                total.add_(exact, alpha=weight)
            elif weight:
                total.index_add_(0, index_of(rows, total.device), exact, alpha=weight)

    def forget(self, rows: Sequence[int]) -> None:
        """Removes all values of the samples `rows`."""
        self._gram[np.asarray(rows)] = self._empty
        for total in self._sums:
            total.index_fill_(0, index_of(rows, total.device), 0.0)

    def at(self, rows: Sequence[int], at: float) -> Tensor:
        """The regression of the samples `rows` at a position, (len(rows), ...), in float32 or wider."""
        basis = chebyshev_basis(at, self.degree)
        sides = np.broadcast_to(basis[:, None], (len(rows), *basis.shape, 1))
        solved = np.linalg.solve(self._gram[np.asarray(rows)], sides)
        values = [taken(total, rows) for total in self._sums]
        weights = sent(solved[:, :, 0].T.copy(), values[0].device, values[0].dtype)
        weights = weights.view(*weights.shape, *[1] * (values[0].dim() - 1))
        total = values[0] * weights[0]
        for weight, each in zip(weights[1:], values[1:], strict=True):
            total.addcmul_(each, weight)
        return total
