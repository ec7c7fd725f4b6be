"""Exact inversion: the noise from which a solver's own steps lead to given states, by fixed-point iteration."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Point, Solver, State
from sadaflow.solvers.part import evaluations_to

from ..denoiser import Denoise
from .anderson import DEPTH, combined
from .results import InversionStats, Inverted
from .walk import Walk, relative

_MARGIN = 0.1
"""Largest residual of a step, in parts of the tolerance of the whole way."""


_LONGEST = 3
"""Most steps that are solved at once: singlestep methods have rounds of up to three."""


@dataclass(frozen=True)
class _Block:
    """Steps that start from x alone.

    Attributes:
        steps: Number of steps.
        start, end: Their first and last point.
        evaluations: Indices of their evaluations.
    """

    steps: int
    start: Point
    end: Point
    evaluations: range

    @property
    def ratio(self) -> float:
        """How much of a change of x at the end is one at the start, if the velocity of x / (alpha + sigma) is kept."""
        return (self.start.alpha + self.start.sigma) / (self.end.alpha + self.end.sigma)


def invert_exactly(solver: Solver, denoise: Denoise, x: Tensor, tolerance: float, iterations: int) -> Inverted:
    """Finds the states at the first point of a grid from which the solver's steps lead to x at its last point.

    From data to noise, each step solves F(x_k) = x_{k+1} for its start, where F is the solver's step with its
    evaluations. The iteration

        x_k <- x_k - (alpha_k + sigma_k) / (alpha_{k+1} + sigma_{k+1}) (F(x_k) - x_{k+1})

    holds the velocity of x / (alpha + sigma) fixed, which is finite at alpha = 0 as well. It converges if x0 as a
    function of x is no steeper than for data on a plane, and is sped up by Anderson acceleration. Samples that have
    converged are not evaluated again. A run from the noise that was found measures the error.

    Source: Pan et al. 2023, arXiv 2309.04907 (fixed-point inversion of DDIM, in eps).

    Args:
        solver: A solver that draws no noise and needs no outputs of earlier steps; its grid ends above clean data.
        denoise: Its denoiser.
        x: States to invert, at the last point of the grid, (B, ...).
        tolerance: Largest error of the way there and back, root mean square relative to x.
        iterations: Most iterations of a step.

    Raises:
        ValueError: If the solver needs outputs of earlier steps, or if the error stays above the tolerance.
    """
    blocks, walk, most = _blocks(solver), Walk(solver, denoise, len(x)), 0
    state = x
    for block in reversed(blocks):
        state, needed = _solve(walk, block, state, _MARGIN * tolerance, iterations)
        most = max(most, needed)
    error = relative(walk.run(state) - x, x).tolist()
    if not max(error) <= tolerance:
        raise ValueError(
            f"the inversion did not converge: sampling from the noise found ends {max(error):.2g} away from the "
            f"picture, and tolerance={tolerance:g} (root mean square, relative). Take more steps, less guidance, "
            f"iterations= above {iterations}, a larger tolerance=, or method='ode', which solves nothing"
        )
    return Inverted(state, solver, InversionStats("exact", walk.nfe, most, error))


def _blocks(solver: Solver) -> list[_Block]:
    """The shortest parts of a run that start from x alone: steps, or the rounds of a singlestep method.

    Raises:
        ValueError: If the solver needs outputs of earlier steps all along.
    """
    points, ends = solver.grid.points, evaluations_to(solver)
    state, blocks, first, start = State(torch.zeros(1, 1)), [], 0, 0
    for point, end in enumerate(ends, 1):
        while state.step < end:
            state = solver.step(state, torch.zeros(1, 1))
        if not state.history:
            blocks.append(_Block(point - start, points[start], points[point], range(first, end)))
            first, start = end, point
    if start < len(ends) or max(block.steps for block in blocks) > _LONGEST:
        raise ValueError(
            f"{type(solver).__name__} combines the outputs of many steps, which lie ahead on the way from data to "
            "noise: invert with a one-step method ('euler', 'heun', 'res_2s'), or by method='ode'"
        )
    return blocks


def _solve(walk: Walk, block: _Block, target: Tensor, tolerance: float, iterations: int) -> tuple[Tensor, int]:
    """The start (B, ...) of a block that ends at `target` (B, ...), and the number of iterations."""
    x, rows = target.clone(), list(range(len(target)))
    states: list[Tensor] = []
    residuals: list[Tensor] = []
    for iteration in range(1, iterations + 1):
        own, wanted = x[rows], target[rows]
        gap = walk.take(State(own, block.evaluations.start), block.evaluations, rows).x - wanted
        error = relative(gap, wanted).tolist()
        left = [index for index, value in enumerate(error) if not value <= tolerance]
        if not left:
            return x, iteration
        rows = [rows[index] for index in left]
        states = [past[left] for past in [own, *states][: DEPTH + 1]]
        residuals = [past[left] for past in [-block.ratio * gap, *residuals][: DEPTH + 1]]
        x[rows] = combined(states, residuals)
    return x, iterations
