"""Takes skipped steps again with interpolated x0 once the next evaluation is known.

A solver's `step` is pure and costs a few multiplications, so the steps since the last true evaluation can be repeated
with better x0. This is the corrector of a predictor-corrector pair, without an evaluation of its own, as UniC
(arXiv 2302.04867) is for a single step.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from sadaflow.solvers import Solver, State


class Replay:
    """Keeps each sample's state at its last true evaluation, from which skipped steps can be taken again.

    Memory: one state of the solver (x and its history).

    Args:
        solver: The solver of the run.
        samples: Number of samples, B.

    Raises:
        ValueError: if the solver draws noise: repeating its past steps does not improve them.
    """

    def __init__(self, solver: Solver, samples: int) -> None:
        if getattr(solver, "noise", None) is not None:
            raise ValueError(f"skipped steps of {type(solver).__name__} cannot be replayed: it draws noise")
        self.solver = solver
        self._bases: list[State | None] = [None] * samples

    def corrected(self, state: State, rows: Sequence[int], x0_at: Callable[[int, int], Tensor]) -> State:
        """Takes the skipped steps of some samples again.

        Args:
            state: The solver's state, at a step where the samples `rows` have just been evaluated.
            rows: Indices of these samples.
            x0_at: `x0_at(row, step)` is the interpolated x0 (...) of a sample at a step since its last evaluation.

        Returns:
            The corrected state.
        """
        for row in rows:
            sample = row_of(state, row)
            base = self._bases[row]
            if base is not None and base.step < state.step - 1:
                while base.step < state.step:
                    base = self.solver.step(base, x0_at(row, base.step)[None])
                sample = base
                state = with_row(state, row, sample)
            self._bases[row] = sample
        return state


def row_of(state: State, row: int) -> State:
    """A copy of the state of sample `row`, as a batch of one."""

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[row : row + 1].clone()
        return tuple(map(cut, value)) if isinstance(value, tuple) else value

    return replace(state, **{field.name: cut(getattr(state, field.name)) for field in fields(state)})


def with_row(state: State, row: int, sample: State) -> State:
    """`state` with sample `row` replaced by `sample`, a batch of one."""

    def put(batch: Any, single: Any) -> Any:
        if isinstance(batch, Tensor):
            return torch.cat((batch[:row], single, batch[row + 1 :]))
        return tuple(map(put, batch, single)) if isinstance(batch, tuple) else batch

    return replace(state, **{f.name: put(getattr(state, f.name), getattr(sample, f.name)) for f in fields(state)})
