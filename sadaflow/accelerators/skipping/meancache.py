"""MeanCache: the velocity of a skipped step is an average velocity (ICLR 2026, arXiv 2601.19961)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sadaflow.solvers import Solver
from sadaflow.solvers.coordinates import Frame, frame_of

from ...device.indexing import sent, taken
from ..base import Mode
from ..fitting import require_falling_times, require_steps
from ..history import Array, NodeBuffer
from ..settings import check_sequence
from ..steps.choice import Choice, check_choice_of_steps, mask_of_choice
from .base import OutputRun
from .evaluated import Evaluated


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
        self.evaluated = Evaluated(samples)

    def plan(self, step: int) -> Sequence[Mode]:
        return self.evaluated.plan(self.mask[step], Mode.REUSED)

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        states, velocities = (self._published if self.released else self._average)(step, np.asarray(rows))
        output = self.velocities.combined(rows, velocities) + self.states.combined(rows, states[:, 1:])
        now = taken(x, rows)
        if states[:, 0].any():
            weights = sent(states[:, 0] / self.frame.scale(self.nodes[step]), now.device, now.dtype)
            output = output + now * weights.view(-1, *[1] * (now.dim() - 1))
        return self.x0_of(output, now, step)

    def _average(self, step: int, index: NDArray[np.int64]) -> tuple[Array, Array]:
        """Weights of the present state and past ones, and of past velocities, newest first, after the paper."""
        states, velocities, times, back = self._begun(step, index)
        here = np.arange(len(index))
        following = next((later for later in range(step, len(self.mask)) if self.mask[later]), None)
        ahead = (self.end if following is None else self.u[following]) - times[:, 0]
        span = times[:, 0] - times[here, back]
        weight = np.divide(ahead, span**2, out=np.zeros(len(index)), where=back > 0)
        states[:, 1] += weight
        states[here, 1 + back] -= weight
        velocities[here, back] -= weight * span
        return states, velocities

    def _published(self, step: int, index: NDArray[np.int64]) -> tuple[Array, Array]:
        """The same as the published code goes: over steps, from the present state."""
        states, velocities, times, back = self._begun(step, index)
        here = np.arange(len(index))
        span = self.u[step] - times[here, back]
        width = (self.u[step + 1] if step + 1 < len(self.u) else self.end) - self.u[step]
        weight = width / span
        velocities[here, back] -= weight
        states[:, 0] += weight / span
        states[here, 1 + back] -= weight / span
        return states, velocities

    def _begun(self, step: int, index: NDArray[np.int64]) -> tuple[Array, Array, Array, NDArray[np.int64]]:
        """Weights of the newest velocity alone, the times of the nodes, and which node the average goes back to."""
        rows, size = len(index), self.states.size
        states, velocities = np.zeros((rows, size + 1)), np.zeros((rows, size))
        velocities[:, 0] = 1.0
        back = np.minimum(self.orders[step], self.states.counts[index]) - 1
        return states, velocities, self.states.times[index], back

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        rows = range(self.samples) if self.released else self.evaluated.rows
        if rows:
            self.states.push(rows, self.u[step], taken(x, rows) / self.frame.scale(self.nodes[step]))
            self.velocities.push(rows, self.u[step], taken(self.output(x, x0, step), rows))

    def edited(self, step: int, rows: Sequence[int]) -> None:
        self.evaluated.edited(rows)
        for nodes in (self.states, self.velocities):
            nodes.forget(rows)


def _orders_of_steps(mask: Sequence[bool], orders: Sequence[int]) -> list[int]:
    """The order of the gap that each step lies in; 1 where none is skipped."""
    starts = [step for step in range(1, len(mask)) if mask[step - 1] and not mask[step]]
    found, gap = [1] * len(mask), -1
    for step, evaluated in enumerate(mask):
        gap += step in starts
        if not evaluated and gap >= 0:
            found[step] = orders[round(gap * (len(orders) - 1) / max(1, len(starts) - 1))]
    return found
