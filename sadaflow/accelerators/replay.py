"""Replaying skipped steps: once the network has answered again, x0 in between is interpolated, not extrapolated.

A solver's `step` is pure and costs a few multiplications, so the steps since the last true evaluation can be taken
again with better x0. It is the corrector of a predictor-corrector pair without an evaluation of its own, as UniC
(arXiv 2302.04867) is for a single step.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from sadaflow.solvers import Solver, State


class Replay:
    """Per sample, the state at its last true evaluation, from which skipped steps can be taken again.

    Memory: one state of the solver (x and its history). Raises ValueError for a solver that draws noise, whose past
    steps are no better for being taken again.
    """

    def __init__(self, solver: Solver, samples: int) -> None:
        if getattr(solver, "noise", None) is not None:
            raise ValueError(f"skipped steps of {type(solver).__name__} cannot be replayed: it draws noise")
        self.solver = solver
        self._bases: list[State | None] = [None] * samples

    def corrected(self, state: State, rows: Sequence[int], x0_at: Callable[[int, int], Tensor]) -> State:
        """`state`, in which the samples `rows` have just been evaluated, with their skipped steps taken again.

        `x0_at(row, step)` is the better x0 (...) of one sample at any step since its last evaluation.
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
    """The state of one sample, as a batch of one, which does not keep the others in memory."""

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[row : row + 1].clone()
        return tuple(map(cut, value)) if isinstance(value, tuple) else value

    return replace(state, **{field.name: cut(getattr(state, field.name)) for field in fields(state)})


def with_row(state: State, row: int, sample: State) -> State:
    """`state` with sample `row` replaced by the batch of one `sample`."""

    def put(batch: Any, one: Any) -> Any:
        if isinstance(batch, Tensor):
            return torch.cat((batch[:row], one, batch[row + 1 :]))
        return tuple(map(put, batch, one)) if isinstance(batch, tuple) else batch

    return replace(state, **{f.name: put(getattr(state, f.name), getattr(sample, f.name)) for f in fields(state)})
