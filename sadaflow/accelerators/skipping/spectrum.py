"""Spectrum: the network's output is a sum of Chebyshev polynomials in time (CVPR 2026, arXiv 2603.01623)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ...device.indexing import taken
from ..base import Mode, require_falling_times, require_steps
from ..history import NodeBuffer
from ..predictors import chebyshev_basis, positions
from ..settings import check_fractions, check_numbers, check_whole
from ..steps.spectrum_steps import spectrum_steps
from .base import OutputRun, Reuse


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
        self.evaluated = settings.evaluated_steps(solver.n_evals)
        self.fit = ChebyshevFit(settings.degree, settings.ridge)
        self.past = NodeBuffer(2, samples)
        self.at = positions(solver, "unit")

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.FULL if step in self.evaluated else Mode.REUSED] * self.samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        blend, at = self.settings.blend, self.at[step]
        line = self.past.at(rows, at)
        output = torch.lerp(line, taken(self.fit.at(at), rows).to(line.dtype), blend)
        return self.x0_of(output, taken(x, rows), step)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if step in self.evaluated:
            output = self.output(x, x0, step)
            self.past.push(range(self.samples), self.at[step], output)
            self.fit.add(self.at[step], output)


class ChebyshevFit:
    """A ridge regression on Chebyshev polynomials, which keeps sums in place of the values.

    Args:
        degree: Highest polynomial.
        ridge: Weight of the squared coefficients.
    """

    def __init__(self, degree: int, ridge: float) -> None:
        self.degree = degree
        self._gram = ridge * np.eye(degree + 1)
        self._sums: list[Tensor] = []

    def add(self, at: float, values: Tensor) -> None:
        """Adds values (B, ...) at a position within -1 and 1."""
        basis = chebyshev_basis(at, self.degree)
        self._gram += np.outer(basis, basis)
        if not self._sums:
            exact = torch.promote_types(values.dtype, torch.float32)
            self._sums = [torch.zeros_like(values, dtype=exact) for _ in basis]
        for total, weight in zip(self._sums, basis.tolist(), strict=True):
            if weight:
                total.add_(values, alpha=weight)

    def at(self, at: float) -> Tensor:
        """The regression at a position, (B, ...), in float32 or wider."""
        weights = np.linalg.solve(self._gram, chebyshev_basis(at, self.degree)).tolist()
        total = self._sums[0] * weights[0]
        for weight, each in zip(weights[1:], self._sums[1:], strict=True):
            total.add_(each, alpha=weight)
        return total
