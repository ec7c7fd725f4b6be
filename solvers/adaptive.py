"""Adaptive steps: embedded Runge-Kutta pairs with a PI controller, for reference runs through a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from .base import velocity_at
from .coordinates import FLOW_FRAME
from .grid import Grid, Node, Point, point_at
from .prediction import from_x0
from .schedule import Schedule


@dataclass(frozen=True)
class Pair:
    """Embedded Runge-Kutta pair whose last stage lies at the step's end, so that its slope starts the next step.

    Attributes:
        order: order of the solution that is kept.
        nodes: position of each stage in the step, from 0 to 1.
        rows: `rows[j-1]` weights slopes 0 .. j-1 at stage j.
        error: weights of the slopes in the difference from the embedded method of one order lower.
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
    """Result of an adaptive run.

    Attributes:
        x: (B, ...), state at the end.
        grid: the accepted steps, on which any fixed-step solver can repeat the run.
        nfe: evaluations of the whole batch.
        accepted: number of accepted steps.
        rejected: number of rejected steps.
    """

    x: Tensor
    grid: Grid
    nfe: int
    accepted: int
    rejected: int


@dataclass(frozen=True, eq=False)
class Adaptive:
    """Integrates from `t_start` to `t_end` with steps whose error stays below atol + rtol |x|.

    The error is the root mean square over a sample, and the worst sample decides for the batch. The controller is PI,
    in the flow frame.

    Source: Hairer & Wanner, Solving Ordinary Differential Equations II, section IV.2.

    Attributes:
        schedule: the noise schedule.
        t_start: start time.
        t_end: end time, below `t_start` and above the schedule's `t_min`, where the ODE has no right-hand side.
        rtol: relative tolerance, above 0.
        atol: absolute tolerance, above 0.
        pair: "bogacki-shampine" (order 3) or "dormand-prince" (order 5).
        clean: evaluate once more at `t_end` and return alpha x0 at sigma = 0.
        max_evals: limit on the number of evaluations.

    Raises:
        ValueError: if a field is out of range or unknown.
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
                f"Adaptive needs t_start > t_end > {self.schedule.t_min}, got t_start={self.t_start} and "
                f"t_end={self.t_end}; set clean=True to finish on clean data"
            )

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The node at which a run starts; the others are chosen on the way."""
        return (self._node_at(point_at(self.schedule, self.t_start)),)

    @property
    def order(self) -> int:
        """Order of the solution that is kept."""
        return PAIRS[self.pair].order

    def velocity(self, x: Tensor, x0: Tensor, node: Node) -> Tensor:
        """Returns dx/dt (B, ...) at a node, for the network's x0 at x."""
        return velocity_at(node, (float(self.schedule.d_alpha(node.t)), float(self.schedule.d_sigma(node.t))), x, x0)

    def node(self, s: float) -> Node:
        """Returns the node at flow time s = sigma / (alpha + sigma)."""
        return self._node_at(FLOW_FRAME.point(self.schedule, s))

    def _node_at(self, point: Point) -> Node:
        return Node(point.t, point.alpha, point.sigma, float(self.schedule.timestep(point.t)))

    def solve(self, denoise: Callable[[Tensor, Node], Tensor], noise: Tensor) -> AdaptiveRun:
        """Runs from unit-normal noise.

        Args:
            denoise: `denoise(x, node) -> x0`.
            noise: (B, ...).

        Returns:
            The end state, the accepted grid and the cost.

        Raises:
            RuntimeError: after `max_evals` evaluations.
            FloatingPointError: if x0 is not finite.
        """
        first, last = (self._node_at(point_at(self.schedule, t)) for t in (self.t_start, self.t_end))
        pair, end = PAIRS[self.pair], last.noise_fraction
        slope = _Slope(denoise, self.max_evals)
        z = noise * (first.sigma / (first.alpha + first.sigma))
        current = _Reached(first, z, slope(z, first))
        times, rejected, previous = [self.t_start], 0, 1.0
        h = (end - first.noise_fraction) * min(0.05, 10 * self.rtol ** (1 / pair.order))
        while (s := current.node.noise_fraction) > end:
            finishing = s + h <= end + 1e-12
            step = end - s if finishing else h
            reached, error = self._attempt(slope, current, step, last if finishing else None)
            factor = 0.9 * max(error, 1e-10) ** (-0.7 / pair.order) * previous ** (0.4 / pair.order)
            if error <= 1:
                current, previous = reached, max(error, 1e-4)
                times.append(reached.node.t)
                if finishing:
                    break
            else:
                rejected, factor = rejected + 1, min(factor, 0.9)
            h = step * min(5.0, max(0.2, factor))
        accepted, nfe, x = len(times) - 1, slope.nfe, (last.alpha + last.sigma) * current.z
        if self.clean:
            nfe += 1
            times.append(self.schedule.t_min)
            x = float(self.schedule.alpha(self.schedule.t_min)) * denoise(x, last)
        return AdaptiveRun(x, Grid.from_t(self.schedule, times, start_scale=first.sigma), nfe, accepted, rejected)

    def _attempt(
        self, slope: "_Slope", start: "_Reached", step: float, last: Node | None
    ) -> tuple["_Reached", float]:
        """Takes one step of flow time, which ends at `last` if given; returns what it reaches and its error."""
        pair, s = PAIRS[self.pair], start.node.noise_fraction
        nodes = [last if last is not None and at == 1 else self.node(s + at * step) for at in pair.nodes[1:]]
        slopes = [start.slope]
        for node, row in zip(nodes, pair.rows, strict=True):
            z = start.z + step * _mix(row, slopes)
            slopes.append(slope(z, node))
        error = _relative(step * _mix(pair.error, slopes), start.z, z, self.atol, self.rtol)
        return _Reached(nodes[-1], z, slopes[-1]), error


class _Reached(NamedTuple):
    """A state in the flow frame: z and dz/ds (B, ...) at a node."""

    node: Node
    z: Tensor
    slope: Tensor


class _Slope:
    """Evaluates dz/ds in the flow frame with a denoiser, and counts the evaluations."""

    def __init__(self, denoise: Callable[[Tensor, Node], Tensor], limit: int) -> None:
        self.denoise, self.limit, self.nfe = denoise, limit, 0

    def __call__(self, z: Tensor, node: Node) -> Tensor:
        self.nfe += 1
        if self.nfe > self.limit:
            raise RuntimeError(f"not finished after {self.limit} evaluations; increase rtol, atol or max_evals")
        x = (node.alpha + node.sigma) * z
        output = from_x0("flow_prediction", self.denoise(x, node), x, node.alpha, node.sigma)
        if not bool(torch.isfinite(output).all()):
            raise FloatingPointError(f"x0 is not finite at t={node.t:.6g}, sigma={node.sigma:.6g}")
        return output


def _mix(weights: tuple[float, ...], tensors: list[Tensor]) -> Tensor:
    """Returns the weighted sum of tensors."""
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total + weight * tensor
    return total


def _relative(error: Tensor, before: Tensor, after: Tensor, atol: float, rtol: float) -> float:
    """Root mean square of error / (atol + rtol |z|) over a sample, the largest over the batch."""
    scaled = error / (atol + rtol * torch.maximum(before.abs(), after.abs()))
    return float(scaled.flatten(1).square().mean(1).sqrt().max())
