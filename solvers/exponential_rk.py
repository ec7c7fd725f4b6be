"""Exponential Runge-Kutta methods in x0 over steps in log-SNR, for the ODE (RES) and the reverse SDE (SEEDS)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .coordinates import node_at
from .dpmpp import Integrals
from .grid import Node, Point, point_at
from .linear import NoisySolver, Update, first_order
from .planned import Planned
from .polynomials import phi

Row = tuple[float, ...]


@dataclass(frozen=True)
class ExponentialTableau:
    """Exponential method of several stages.

    Attributes:
        order: order of convergence on the ODE.
        nodes: position of each stage in the step, from 0 to 1, rising.
        rows: maps the length H of the step to the weights of x0 at the stages so far, oldest first: row j-1 for stage
            j, the last row for the end of the step. A row sums to 1 - e^(-c H), where c is the position that it leads
            to.
    """

    order: int
    nodes: tuple[float, ...]
    rows: Callable[[float], tuple[Row, ...]]


def _res_2s(h: float) -> tuple[Row, ...]:
    late = h * phi(2, h) / 0.5
    return (_rest(h / 2),), (_rest(h) - late, late)


def _res_3s(h: float) -> tuple[Row, ...]:
    # Stages at 0, 1/2 and 1, for which gamma = (3 c3^2 - 2 c3) / (c2 (2 - 3 c2)) is 4.
    middle, whole = h * phi(2, h / 2), h * phi(2, h)
    second = 2 * middle + 2 * whole
    late = whole / 3
    return (_rest(h / 2),), (_rest(h) - second, second), (_rest(h) - 5 * late, 4 * late, late)


def _seeds_2(h: float) -> tuple[Row, ...]:
    return (_rest(h / 2),), (0.0, _rest(h))


def _seeds_3(h: float) -> tuple[Row, ...]:
    z = 2 * h / 3
    second, late = 2 * z * phi(2, z), h * phi(2, h) * 3 / 2
    return (_rest(h / 3),), (_rest(z) - second, second), (_rest(h) - late, 0.0, late)


def _rest(h: float) -> float:
    """1 - e^-h."""
    return -math.expm1(-h)


EXPONENTIAL_TABLEAUS: Final = {
    "res_2s": ExponentialTableau(2, (0.0, 1 / 2), _res_2s),
    "res_3s": ExponentialTableau(3, (0.0, 1 / 2, 1.0), _res_3s),
    "seeds_2": ExponentialTableau(2, (0.0, 1 / 2), _seeds_2),
    "seeds_3": ExponentialTableau(3, (0.0, 1 / 3, 2 / 3), _seeds_3),
}


@dataclass(frozen=True, eq=False)
class ExponentialRungeKutta(Planned, NoisySolver):
    """Exponential method of two or three stages per step, on the ODE or, with eta > 0, on the reverse SDE.

        X_j = sigma_j/sigma e^(-eta c_j h) x + alpha_j sum_i a_ji(H) x0(X_i) + sigma_j N_j,    H = (1 + eta) h

    h is the length of the step in log-SNR, and c_j the position of stage j in it. N_j is the noise of the reverse SDE
    up to stage j: each stage carries on the noise of the one before, and adds that of its own interval. The state at a
    stage holds x and the noise so far, so that no stage returns to the start of the step.

    "res_2s" and "res_3s" satisfy all stiff order conditions ("res_2s" with eta > 0 is SEEDS-2 with phi_2 weights).
    "seeds_2" evaluates half way in log-SNR and takes the step with the x0 found there; with eta = 0 it is
    DPM-Solver++ 2S (midpoint) on a grid with every midpoint added. "seeds_3" evaluates at thirds. A step from
    alpha = 0, or to sigma = 0, has infinite length and is first-order with one evaluation.

    Source: Zhang et al. 2023 (RES), arXiv 2308.02157; Gonzalez et al. 2023 (SEEDS), arXiv 2305.14267.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source, needed if eta > 0.
        method: "res_2s", "res_3s", "seeds_2" or "seeds_3".
        eta: fraction of noise replaced: 0 is the ODE, 1 the reverse SDE.

    Raises:
        ValueError: if `method` is unknown, if `eta` is negative or not finite, or with eta > 0 on a rising grid.
    """

    method: str = "res_2s"
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in EXPONENTIAL_TABLEAUS:
            known = ", ".join(EXPONENTIAL_TABLEAUS)
            raise ValueError(f"unknown exponential Runge-Kutta method {self.method!r}; known are {known}")
        if not 0 <= self.eta < math.inf:
            raise ValueError(f"ExponentialRungeKutta.eta must be 0 or more and finite, got {self.eta}")
        self._require_falling(self.eta > 0)

    @property
    def order(self) -> int:
        """1 for eta > 0, else that of the method."""
        return 1 if self.eta else EXPONENTIAL_TABLEAUS[self.method].order

    def _step(self, index: int) -> tuple[list[Node], list[Update]]:
        """Returns the nodes and updates of the step from grid point `index` to the next."""
        start, end = self.grid.nodes[index], self.grid.points[index + 1]
        if start.pure_noise or end.pure_noise or end.sigma == 0:
            return [start], [self._alone(start, end)]
        tableau, h = EXPONENTIAL_TABLEAUS[self.method], end.log_snr - start.log_snr
        nodes = [start]
        for c in tableau.nodes[1:]:
            at = node_at(self.grid, index + 1) if c == 1 else self._between(start.log_snr + c * h)
            assert isinstance(at, Node)  # the end is not clean data
            nodes.append(at)
        before: Row = ()
        updates, places = [], (*tableau.nodes[1:], 1.0)
        for stage, (here, there) in enumerate(zip(nodes, [*nodes[1:], end], strict=True)):
            row = tuple(there.alpha * weight for weight in tableau.rows((1 + self.eta) * h)[stage])
            left = self.eta * h * (places[stage] - tableau.nodes[stage])
            keep = there.sigma / here.sigma * math.exp(-left)
            carried = tuple(keep * weight for weight in (*before, 0.0))
            weights = tuple(new - old for new, old in zip(row, carried, strict=True))
            noise = there.sigma * math.sqrt(-math.expm1(-2 * left))
            span = (here.noise_fraction, there.noise_fraction)
            updates.append(Update(keep, weights[::-1], noise=noise, span=span))
            before = row
        return nodes, updates

    def _alone(self, start: Point, end: Point) -> Update:
        """Returns the first-order step."""
        if not self.eta:
            return first_order(start, end)
        integrals = Integrals.of_step(start, end, self.eta)
        span = (start.noise_fraction, end.noise_fraction)
        return Update(integrals.keep, (integrals.constant,), noise=integrals.noise, span=span)

    def _between(self, log_snr: float) -> Node:
        """Returns the node at a log-SNR."""
        schedule = self.grid.schedule
        return self.grid.node(point_at(schedule, float(schedule.t_from_log_snr(log_snr))))
