"""Takes skipped steps again with interpolated x0 once the next evaluation is known.

A solver's `step` is pure and costs a few multiplications, so the steps since the last true evaluation can be repeated
with better x0. This is the corrector of a predictor-corrector pair, without an evaluation of its own, as UniC
(arXiv 2302.04867) is for a single step.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver, State

from ..device.indexing import index_of, mask_of, taken

Interpolated = Callable[[Sequence[int], Sequence[int]], Iterable[Tensor]]
"""`interpolated(rows, steps)`: for each step in turn, the interpolated x0 of these samples, (len(rows), ...)."""


class Replay:
    """Keeps each sample's state at its last true evaluation, from which skipped steps can be taken again.

    All samples of a batch are replayed together, from the earliest of their states on: a replay takes as many steps of
    the solver as the longest of their gaps, however many they are. Memory: one state of the solver (x and its history).

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
        self._steps = np.full(samples, -1)  # of the kept states; -1 before a sample's first evaluation
        self._kept: list[Tensor] = []  # their tensors, (B, ...), in the order of `tensors_of`
        self._frames: dict[int, State] = {}  # by step: a state of that step without its tensors

    def corrected(self, state: State, rows: Sequence[int], interpolated: Interpolated) -> State:
        """Takes the skipped steps of some samples again.

        Args:
            state: The solver's state, at a step where the samples `rows` have just been evaluated.
            rows: Indices of these samples.
            interpolated: Yields their x0 at steps since their last evaluations.

        Returns:
            The corrected state.
        """
        late = [row for row in rows if 0 <= self._steps[row] < state.step - 1]
        if late:
            state = with_rows(state, late, tensors_of(self._replayed(late, state.step, interpolated)))
        self._keep(state, rows)
        return state

    def forget(self, rows: Sequence[int]) -> None:
        """Forgets the states of the samples `rows`, which are not taken again from them."""
        self._steps[np.asarray(rows, dtype=np.int64)] = -1

    def _replayed(self, rows: Sequence[int], end: int, interpolated: Interpolated) -> State:
        """The states of the samples `rows` at the step `end`, as a batch of these samples."""
        kept, starts = [taken(tensor, rows) for tensor in self._kept], self._steps[rows]
        steps = range(int(starts.min()), end)
        state = with_tensors(self._frames[steps[0]], kept)
        for step, x0 in zip(steps, interpolated(rows, steps), strict=True):
            joining = np.flatnonzero(starts == step)
            if step > steps[0] and len(joining):
                mask = mask_of(joining.tolist(), kept[0])
                pairs = zip(kept, tensors_of(state), strict=False)
                state = with_tensors(state, [torch.where(mask, start, other) for start, other in pairs])
            state = self.solver.step(state, x0)
        return state

    def _keep(self, state: State, rows: Sequence[int]) -> None:
        """Keeps the present state of the samples `rows`."""
        if not rows:
            return
        fresh = tensors_of(state)
        if len(rows) < len(self._steps) and self._kept:
            mask = mask_of(rows, fresh[0])
            merged = [torch.where(mask, new, old) for new, old in zip(fresh, self._kept, strict=False)]
            fresh = [*merged, *fresh[len(merged) :], *self._kept[len(merged) :]]
        self._kept, self._steps[rows] = fresh, state.step
        frame = with_tensors(state, [tensor.new_empty(0) for tensor in tensors_of(state)])
        self._frames = {step: kept for step, kept in self._frames.items() if step in self._steps} | {state.step: frame}


def tensors_of(state: State) -> list[Tensor]:
    """The tensors of a state, (B, ...) each, in the order of its fields."""

    def found(value: Any) -> list[Tensor]:
        if isinstance(value, Tensor):
            return [value]
        return [tensor for part in value for tensor in found(part)] if isinstance(value, tuple) else []

    return [tensor for field in fields(state) for tensor in found(getattr(state, field.name))]


def with_tensors(state: State, tensors: Sequence[Tensor]) -> State:
    """`state` with its tensors replaced by the first of `tensors`, in the order of `tensors_of`."""
    following = iter(tensors)

    def put(value: Any) -> Any:
        if isinstance(value, Tensor):
            return next(following)
        return tuple(map(put, value)) if isinstance(value, tuple) else value

    return replace(state, **{field.name: put(getattr(state, field.name)) for field in fields(state)})


def with_rows(state: State, rows: Sequence[int], fresh: Sequence[Tensor]) -> State:
    """`state` with the samples `rows` of its tensors replaced by `fresh`, (len(rows), ...) each."""
    tensors = tensors_of(state)
    if len(rows) == len(tensors[0]):
        return with_tensors(state, fresh)
    index = index_of(rows, tensors[0].device)
    return with_tensors(state, [old.index_copy(0, index, new) for old, new in zip(tensors, fresh, strict=True)])
