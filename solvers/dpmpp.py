"""DPM-Solver++ multistep and its SDE form, orders 1 to 3 (Lu et al. 2022, arXiv 2211.01095)."""

import math
from dataclasses import dataclass
from functools import cached_property

from .grid import Grid, Point
from .linear import NoisySolver, Update

DIFFERENCES = ("midpoint", "heun")


def multistep_terms(grid: Grid, step: int, solver_order: int, lower_order_final: bool, euler_at_final: bool) -> int:
    """How many answers a multistep method combines at a step, as published.

    Fewer at the start, for want of a past; with `lower_order_final` also in the last steps of a run of fewer than 15;
    one in the last with `euler_at_final`, and wherever a step ends at sigma = 0. A point at alpha = 0 does not count:
    it lies infinitely far back in log-SNR.
    """
    left = grid.n_steps - step
    few = lower_order_final and grid.n_steps < 15
    if grid.points[step + 1].sigma == 0 or (left == 1 and (few or euler_at_final)):
        return 1
    usable = step + 1 - sum(point.alpha == 0 for point in grid.points[:step])
    return min(solver_order, usable, left if few else solver_order)


@dataclass(frozen=True)
class Integrals:
    """x' = keep x + constant x0 + linear (h x0') + quadratic (h^2 x0'') + noise z over a step h in log-SNR.

    x0' and x0'' are derivatives in log-SNR at the start. The weights are alpha' times the integrals of
    e^(s-H) (s/H)^k / k! over [0, H], H = (1 + eta) h; `eta` is the share of noise replaced, 0 for the ODE.
    """

    keep: float
    constant: float
    linear: float
    quadratic: float
    noise: float

    @classmethod
    def over(cls, start: Point, end: Point, eta: float) -> "Integrals":
        h = end.log_snr - start.log_snr
        full = (1 + eta) * h
        rest = -math.expm1(-full)
        linear = 1 - rest / full if math.isfinite(full) else 1.0
        quadratic = 0.5 - linear / full if math.isfinite(full) else 0.5
        left = eta * h if eta else 0.0
        return cls(
            keep=end.sigma / start.sigma * math.exp(-left),
            constant=end.alpha * rest,
            linear=end.alpha * linear,
            quadratic=end.alpha * quadratic,
            noise=end.sigma * math.sqrt(-math.expm1(-2 * left)),
        )


@dataclass(frozen=True, eq=False)
class DPMpp(NoisySolver):
    """DPM-Solver++ 1, 2M and 3M, and with eta > 0 their SDE forms, as published.

    `solver_order` is the number of x0 combined (see `multistep_terms` for the exceptions). `second_order` names the
    weight of the first difference in 2M: "midpoint" (1 - e^-h)/2, or "heun", the exact integral. `eta` is the share of
    noise replaced: 0 is the ODE, 1 the reverse SDE, as in k-diffusion. Orders 1, 2 and 2: published 3M halves the
    second difference (docs/solvers.md); `ExponentialAdams` has it whole.
    """

    solver_order: int = 2
    second_order: str = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.solver_order not in (1, 2, 3):
            raise ValueError(f"DPM-Solver++ has orders 1, 2 and 3, got solver_order={self.solver_order}")
        if self.second_order not in DIFFERENCES:
            raise ValueError(f"unknown second_order {self.second_order!r}; known are {', '.join(DIFFERENCES)}")
        if not 0 <= self.eta < math.inf:
            raise ValueError(f"DPMpp.eta must be 0 or more and finite, got {self.eta}")

    @property
    def order(self) -> int:
        return min(self.solver_order, 1 if self.eta else 2)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return tuple(self._update(step) for step in range(self.grid.n_steps))

    def _update(self, step: int) -> Update:
        points = self.grid.points
        start, end = points[step], points[step + 1]
        terms = multistep_terms(self.grid, step, self.solver_order, self.lower_order_final, self.euler_at_final)
        over = Integrals.over(start, end, self.eta)
        past = [points[step - k].log_snr - points[step - k - 1].log_snr for k in range(terms - 1)]
        weights = difference_weights(over, end.log_snr - start.log_snr, past, self.second_order)
        span = (start.noise_fraction, end.noise_fraction)
        return Update(over.keep, weights, noise=over.noise, span=span)


def difference_weights(over: Integrals, h: float, past: list[float], second_order: str) -> tuple[float, ...]:
    """Weights of x0, newest first, for a step h after steps `past`, the last one first.

    D1_0 = (m0 - m1)/r0 and D1_1 = (m1 - m2)/r1 with r = past/h stand for h x0'; their difference over r0 + r1 stands
    for h^2 x0''.
    """
    if not past:
        return (over.constant,)
    r0 = past[0] / h
    if len(past) == 1:
        slope = (over.linear if second_order == "heun" else over.constant / 2) / r0
        return (over.constant + slope, -slope)
    r1 = past[1] / h
    tilt = (over.linear * r0 + over.quadratic) / (r0 + r1)
    newer, older = (over.linear + tilt) / r0, -tilt / r1
    return (over.constant + newer, older - newer, -older)
