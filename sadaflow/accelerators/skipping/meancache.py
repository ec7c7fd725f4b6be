"""MeanCache: the velocity of a skipped step is an average velocity (ICLR 2026, arXiv 2601.19961)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver
from sadaflow.solvers.coordinates import Frame, frame_of

from ...device.indexing import taken
from ..base import Mode, require_falling_times, require_steps
from ..history import Array, NodeBuffer
from ..settings import check_sequence
from ..steps.choice import Choice, check_choice_of_steps, mask_of_choice
from .base import OutputRun


@dataclass(frozen=True)
class MeanCache:
    """Evaluates the steps of a given set, and predicts the average velocity between them.

    The states z and velocities v = dz/du are those of the frame in which the ODE of the schedule is simple
    (`solvers.coordinates.Frame`; for rectified flow z is x, and u is t). With t the last evaluated step, s the next one
    and r the evaluated one `orders` - 1 before t, the average velocity from t to s is v_t + (s - t) J with

        J = (z_t - z_r - (t - r) v_r) / (t - r)^2,

    half the mean acceleration from r to t; with order 1 it is v_t. It is used at all steps between t and s.

    The published code steps on from one skipped step i to the next with v_(i-1) - J (u_(i+1) - u_i), in which v_(i-1)
    and the points of J, with J = (v_a - mean velocity from a to i) / (u_i - u_a), may be predicted ones. That is
    `released`.

    Attributes:
        evaluated: The evaluated steps, as of `Schedule`.
        orders: Number of evaluations (steps if `released`) from r to t, both counted, for the gaps of the set in turn;
            if there are more or fewer gaps than numbers, they are spread over the gaps.
        released: Whether to predict as the published code does.
    """

    evaluated: Choice = "meancache-qwen-17"
    orders: tuple[int, ...] = (2, 1, 1, 1, 1, 1, 1, 4)
    released: bool = False

    def __post_init__(self) -> None:
        check_choice_of_steps(self.evaluated)
        check_sequence(self, "orders", above=0)
        if not all(isinstance(order, int) for order in self.orders):
            raise ValueError(f"MeanCache.orders must be whole numbers, got {self.orders!r}")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_falling_times(solver, "meancache")
        require_steps(solver, "'meancache'", 2)
        mask = mask_of_choice(self.evaluated, solver.n_evals)
        if not mask[0]:
            raise ValueError("accelerator 'meancache' needs step 0 to be evaluated")
        return _Run(self, solver, shape[0], mask)


class _Run(OutputRun):
    def __init__(self, settings: MeanCache, solver: Solver, samples: int, mask: Sequence[bool]) -> None:
        self.frame: Frame = frame_of(solver.grid, None)
        super().__init__(solver, samples, self.frame.prediction)
        self.mask, self.released = mask, settings.released
        self.u = [self.frame.u(node) for node in solver.nodes]
        self.end = self.frame.u(solver.grid.points[-1])
        self.orders = _orders_of_steps(mask, settings.orders)
        most = max(settings.orders)
        self.states, self.velocities = NodeBuffer(most, samples), NodeBuffer(most, samples)

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.FULL if self.mask[step] else Mode.REUSED] * self.samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        states, velocities = self._published(step) if self.released else self._average(step)
        here = self.states.combined(rows, np.tile(states[1:], (len(rows), 1)))
        output = self.velocities.combined(rows, np.tile(velocities, (len(rows), 1))) + here
        now = taken(x, rows)
        if states[0]:
            output = output + now * (states[0] / self.frame.scale(self.nodes[step]))
        return self.x0_of(output, now, step)

    def _average(self, step: int) -> tuple[Array, Array]:
        """Weights of the present state and past ones, and of past velocities, newest first, after the paper."""
        states, velocities, times = self._nothing()
        back = min(self.orders[step], self._known()) - 1
        velocities[0] = 1.0
        following = next((later for later in range(step, len(self.mask)) if self.mask[later]), None)
        ahead = (self.end if following is None else self.u[following]) - times[0]
        if back > 0:
            span = times[0] - times[back]
            weight = ahead / span**2
            states[1] += weight
            states[1 + back] -= weight
            velocities[back] -= weight * span
        return states, velocities

    def _published(self, step: int) -> tuple[Array, Array]:
        """The same as the published code goes: over steps, from the present state."""
        states, velocities, times = self._nothing()
        back = min(self.orders[step], self._known()) - 1
        velocities[0] = 1.0
        span = self.u[step] - times[back]
        width = (self.u[step + 1] if step + 1 < len(self.u) else self.end) - self.u[step]
        weight = width / span
        velocities[back] -= weight
        states[0] += weight / span
        states[1 + back] -= weight / span
        return states, velocities

    def _nothing(self) -> tuple[Array, Array, Array]:
        """Weights of 0, and the times of the nodes."""
        size = self.states.size
        return np.zeros(size + 1), np.zeros(size), self.states.times[0]

    def _known(self) -> int:
        return int(self.states.counts[0])

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if self.mask[step] or self.released:
            rows = range(self.samples)
            self.states.push(rows, self.u[step], x / self.frame.scale(self.nodes[step]))
            self.velocities.push(rows, self.u[step], self.output(x, x0, step))


def _orders_of_steps(mask: Sequence[bool], orders: Sequence[int]) -> list[int]:
    """The order of the gap that each step lies in; 1 where none is skipped."""
    starts = [step for step in range(1, len(mask)) if mask[step - 1] and not mask[step]]
    found, gap = [1] * len(mask), -1
    for step, evaluated in enumerate(mask):
        gap += step in starts
        if not evaluated and gap >= 0:
            found[step] = orders[round(gap * (len(orders) - 1) / max(1, len(starts) - 1))]
    return found
