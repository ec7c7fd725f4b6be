"""Runs a solver from grid point to grid point, and counts the evaluations of each sample."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sadaflow.models import call_through
from sadaflow.solvers import Solver, State

from ...device.indexing import taken
from ..denoiser import Denoise, evaluates_rows


class Walk:
    """Evaluates a denoiser for some samples of a batch, and takes steps with what it predicts.

    Args:
        solver: The solver.
        denoise: Its denoiser.
        samples: Number of samples of the batch.

    Attributes:
        nfe: Evaluations of each sample so far.
    """

    def __init__(self, solver: Solver, denoise: Denoise, samples: int) -> None:
        self._solver, self._denoise = solver, denoise
        self.nfe = [0.0] * samples

    def take(self, state: State, evaluations: range, rows: Sequence[int]) -> State:
        """The state after some evaluations.

        Args:
            state: The state before them, of the samples `rows` alone.
            evaluations: Indices of the evaluations.
            rows: Indices of these samples in the batch.

        Raises:
            FloatingPointError: If an x0 is not finite.
        """
        for evaluation in evaluations:
            state = self._solver.step(state, self.x0(state.x, evaluation, rows))
        return state

    def x0(self, x: Tensor, evaluation: int, rows: Sequence[int]) -> Tensor:
        """x0 of the samples `rows`, whose states are x (len(rows), ...); raises FloatingPointError for NaN."""
        for row in rows:
            self.nfe[row] += 1
        x0 = self._predicted(x, evaluation, rows)
        if not bool(torch.isfinite(x0).all()):
            raise FloatingPointError(f"inversion: x0 holds NaN or infinity at evaluation {evaluation}")
        return x0

    def _predicted(self, x: Tensor, evaluation: int, rows: Sequence[int]) -> Tensor:
        if evaluates_rows(self._denoise):
            return self._denoise.evaluate(x, evaluation, rows, call_through)
        if len(rows) == len(self.nfe):
            return self._denoise(x, evaluation)
        whole = x.new_zeros(len(self.nfe), *x.shape[1:])
        whole[list(rows)] = x
        return taken(self._denoise(whole, evaluation), rows)

    def run(self, x: Tensor) -> Tensor:
        """The states (B, ...) at the end of a run that starts from x (B, ...) itself."""
        return self.take(State(x), range(self._solver.n_evals), range(len(x))).x


def rows_of(state: State, rows: Sequence[int]) -> State:
    """The state of some samples of a batch."""
    anchor = None if state.anchor is None else taken(state.anchor, rows)
    history = tuple(taken(output, rows) for output in state.history)
    return replace(state, x=taken(state.x, rows), history=history, anchor=anchor)


def relative(gap: Tensor, like: Tensor) -> Tensor:
    """Root mean square of each sample's gap (B, ...), relative to that of `like`: (B,)."""
    spread = like.flatten(1).square().mean(1).sqrt().clamp(min=torch.finfo(like.dtype).tiny)
    return gap.flatten(1).square().mean(1).sqrt() / spread
