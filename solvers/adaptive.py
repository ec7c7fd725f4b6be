"""Adaptive steps: embedded Runge-Kutta pairs under a PI controller, for reference runs through a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from .base import velocity_at
from .coordinates import FLOW_FRAME
from .grid import Grid, Node, Point, point_at
from .prediction import from_x0
from .schedule import Schedule


@dataclass(frozen=True)
class Pair:
    """An explicit method whose last stage is the step's end, so that its slope starts the next step.

    `error` has the weights of its difference from a method one order lower; `order` is that of the solution kept.
    """

    order: int
    nodes: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    error: tuple[float, ...]


PAIRS: Final = {
    # Bogacki & Shampine 1989, A 3(2) pair of Runge-Kutta formulas.
    "bogacki-shampine": Pair(
        3,
        (0, 1 / 2, 3 / 4, 1),
        ((1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        (2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
    ),
    # Dormand & Prince 1980, A family of embedded Runge-Kutta formulae: 5(4).
    "dormand-prince": Pair(
        5,
        (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
        (
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    ),
}


@dataclass(frozen=True)
class AdaptiveRun:
    """How an adaptive run went: x at the end, the grid of its accepted steps, and what it cost.

    `grid` makes the run repeatable with any fixed-step solver. `nfe` counts evaluations of the whole batch.
    """

    x: Tensor
    grid: Grid
    nfe: int
    accepted: int
    rejected: int


@dataclass(frozen=True, eq=False)
class Adaptive:
    """Integrate from `t_start` to `t_end` with steps that keep the error of each below atol + rtol |x|.

    The error is the root mean square over a sample, and the worst sample decides for the batch. The controller is PI
    (Hairer & Wanner, Solving Ordinary Differential Equations II, section IV.2) in the flow frame. `clean` evaluates
    once more at `t_end` and returns alpha x0 at sigma = 0. Raises ValueError for an unknown pair, for tolerances not
    above 0, and for a `t_end` without noise, where the ODE has no right-hand side.
    """

    schedule: Schedule
    t_start: float
    t_end: float
    rtol: float = 1e-4
    atol: float = 1e-4
    pair: str = "dormand-prince"
    clean: bool = False
    max_evals: int = 10_000

    def __post_init__(self) -> None:
        if self.pair not in PAIRS:
            raise ValueError(f"unknown embedded pair {self.pair!r}; known are {', '.join(PAIRS)}")
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"Adaptive needs rtol and atol above 0, got {self.rtol} and {self.atol}")
        if not self.t_start > self.t_end > self.schedule.t_min:
            raise ValueError(
                f"Adaptive runs from t_start down to a t_end above {self.schedule.t_min}, got {self.t_start} and "
                f"{self.t_end}; set clean=True to finish on clean data"
            )

    @property
    def order(self) -> int:
        return PAIRS[self.pair].order

    def velocity(self, x: Tensor, x0: Tensor, node: Node) -> Tensor:
        """dx/dt at a node, for the network's x0 at x."""
        return velocity_at(node, (float(self.schedule.d_alpha(node.t)), float(self.schedule.d_sigma(node.t))), x, x0)

    def node(self, s: float) -> Node:
        """The node at flow time s = sigma / (alpha + sigma)."""
        return self._told(FLOW_FRAME.point(self.schedule, s))

    def _told(self, point: Point) -> Node:
        return Node(point.t, point.alpha, point.sigma, float(self.schedule.timestep(point.t)))

    def solve(self, denoise: Callable[[Tensor, Node], Tensor], noise: Tensor) -> AdaptiveRun:
        """Run from unit-normal noise (B, ...); `denoise(x, node) -> x0`.

        Raises RuntimeError after `max_evals` evaluations, and FloatingPointError where an answer is not finite.
        """
        first, last = (self._told(point_at(self.schedule, t)) for t in (self.t_start, self.t_end))
        pair, end = PAIRS[self.pair], last.noise_fraction
        nfe, accepted, rejected = 0, 0, 0

        def slope(z: Tensor, node: Node) -> Tensor:
            nonlocal nfe
            nfe += 1
            if nfe > self.max_evals:
                raise RuntimeError(f"no end after {self.max_evals} evaluations: raise rtol and atol, or max_evals")
            x = (node.alpha + node.sigma) * z
            answer = from_x0("flow_prediction", denoise(x, node), x, node.alpha, node.sigma)
            if not bool(torch.isfinite(answer).all()):
                raise FloatingPointError(f"x0 is not finite at t={node.t:.6g}, sigma={node.sigma:.6g}")
            return answer

        s, z = first.noise_fraction, noise * (first.sigma / (first.alpha + first.sigma))
        rate, times, previous = slope(z, first), [self.t_start], 1.0
        h = (end - s) * min(0.05, 10 * self.rtol ** (1 / pair.order))
        while s > end:
            finishing = s + h <= end + 1e-12
            step = end - s if finishing else h
            nodes = [last if finishing and at == 1 else self.node(s + at * step) for at in pair.nodes[1:]]
            slopes = [rate]
            for node, row in zip(nodes, pair.rows, strict=True):
                stage = z + step * _mix(row, slopes)
                slopes.append(slope(stage, node))
            error = _relative(step * _mix(pair.error, slopes), z, stage, self.atol, self.rtol)
            factor = 0.9 * max(error, 1e-10) ** (-0.7 / pair.order) * previous ** (0.4 / pair.order)
            if error <= 1:
                s, z, rate = nodes[-1].noise_fraction, stage, slopes[-1]
                times.append(nodes[-1].t)
                previous, accepted = max(error, 1e-4), accepted + 1
                if finishing:
                    break
            else:
                rejected, factor = rejected + 1, min(factor, 0.9)
            h = step * min(5.0, max(0.2, factor))
        x = (last.alpha + last.sigma) * z
        if self.clean:
            nfe += 1
            times.append(self.schedule.t_min)
            x = float(self.schedule.alpha(self.schedule.t_min)) * denoise(x, last)
        return AdaptiveRun(x, Grid.from_t(self.schedule, times, start_scale=first.sigma), nfe, accepted, rejected)


def _mix(weights: tuple[float, ...], tensors: list[Tensor]) -> Tensor:
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total + weight * tensor
    return total


def _relative(error: Tensor, before: Tensor, after: Tensor, atol: float, rtol: float) -> float:
    """The root mean square of error / (atol + rtol |z|) over a sample, the largest over the batch."""
    scaled = error / (atol + rtol * torch.maximum(before.abs(), after.abs()))
    return float(scaled.flatten(1).square().mean(1).sqrt().max())
