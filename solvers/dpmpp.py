"""DPM-Solver++ multistep and its SDE form, orders 1 to 3 (Lu et al. 2022, arXiv 2211.01095)."""

import math
from dataclasses import dataclass
from functools import cached_property

from .grid import Grid, Point
from .linear import NoisySolver, Update

DIFFERENCES = ("midpoint", "heun")


def multistep_terms(grid: Grid, step: int, solver_order: int, lower_order_final: bool, euler_at_final: bool) -> int:
    """Returns how many outputs a multistep method combines at a step, as published.

    There are fewer terms at the start, where outputs are missing. There is one term where a step ends at sigma = 0, or
    at pure noise. Points of pure noise (alpha near 0) do not count, because they are infinitely far back in log-SNR.

    Args:
        grid: the grid.
        step: index of the step.
        solver_order: the largest number of terms.
        lower_order_final: use fewer terms in the last steps of runs of fewer than 15 steps.
        euler_at_final: use one term in the last step.
    """
    left = grid.n_steps - step
    few = lower_order_final and grid.run_steps < 15
    end = grid.points[step + 1]
    if end.sigma == 0 or end.pure_noise or (left == 1 and (few or euler_at_final)):
        return 1
    usable = step + 1 - min(grid.noise_points, step)
    return min(solver_order, usable, left if few else solver_order)


@dataclass(frozen=True)
class Integrals:
    """Weights of the exponential integrator in x0 over one step h in log-SNR.

        x' = keep x + constant x0 + linear (h x0') + quadratic (h^2 x0'') + noise z

    x0' and x0'' are derivatives in log-SNR at the start. With H = (1 + eta) h, the weight of the k-th derivative is

        alpha' int_0^H e^(s-H) (s/H)^k / k! ds.

    Attributes:
        keep: weight of x.
        constant: weight of x0.
        linear: weight of h x0'.
        quadratic: weight of h^2 x0''.
        noise: standard deviation of the noise.
    """

    keep: float
    constant: float
    linear: float
    quadratic: float
    noise: float

    @classmethod
    def of_step(cls, start: Point, end: Point, eta: float) -> "Integrals":
        """Computes the weights of the step from `start` to `end`.

        Args:
            start: start of the step.
            end: end of the step.
            eta: fraction of noise replaced: 0 is the ODE, 1 the reverse SDE.
        """
        if end.alpha == 0:  # the end of a rising grid, infinitely far in log-SNR
            keep = end.sigma / start.sigma
            return cls(keep, -keep * start.alpha, 0.0, 0.0, 0.0)
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
    """DPM-Solver++ 1, 2M and 3M, and their SDE forms, as published.

        x' = sigma'/sigma x + alpha' int_0^h e^(s-h) x0(lambda + s) ds
        lambda = log(alpha/sigma),  h = lambda' - lambda

    x0 is a Taylor polynomial whose derivatives are divided differences of past x0. With m0, m1 the newest x0 and r0 =
    h_previous / h, order 2 ("midpoint") is

        x' = sigma'/sigma x + alpha' (1 - e^-h) (m0 + (m0 - m1) / (2 r0)).

    The orders of convergence are 1, 2 and 2: the published 3M takes half of the second difference (docs/solvers.md);
    `ExponentialAdams` takes all of it. With eta > 0 the order is 1.

    Source: Lu et al. 2022, arXiv 2211.01095; SDE form as in k-diffusion.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source, needed if eta > 0.
        solver_order: number of x0 combined, 1 to 3; see `multistep_terms` for the exceptions.
        second_order: weight of the first difference in 2M: "midpoint" is (1 - e^-h)/2, "heun" the exact integral.
        lower_order_final: see `multistep_terms`.
        euler_at_final: see `multistep_terms`.
        eta: fraction of noise replaced: 0 is the ODE, 1 the reverse SDE.

    Raises:
        ValueError: if an option is out of range or unknown.
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
        self._require_falling(self.eta > 0)

    @property
    def order(self) -> int:
        """1 for eta > 0, else at most 2."""
        return min(self.solver_order, 1 if self.eta else 2)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        return tuple(self._update(step) for step in range(self.grid.n_steps))

    def _update(self, step: int) -> Update:
        points = self.grid.points
        start, end = points[step], points[step + 1]
        terms = multistep_terms(self.grid, step, self.solver_order, self.lower_order_final, self.euler_at_final)
        integrals = Integrals.of_step(start, end, self.eta)
        past = [points[step - k].log_snr - points[step - k - 1].log_snr for k in range(terms - 1)]
        weights = difference_weights(integrals, end.log_snr - start.log_snr, past, self.second_order)
        span = (start.noise_fraction, end.noise_fraction)
        return Update(integrals.keep, weights, noise=integrals.noise, span=span)


def difference_weights(integrals: Integrals, h: float, past: list[float], second_order: str) -> tuple[float, ...]:
    """Computes the weights of x0 and past x0, newest first.

    D1_0 = (m0 - m1)/r0 and D1_1 = (m1 - m2)/r1 with r = past/h approximate h x0'; their difference over r0 + r1
    approximates h^2 x0''.

    Args:
        integrals: weights of the derivatives.
        h: length of the step in log-SNR.
        past: lengths of the previous steps, the last one first.
        second_order: "midpoint" or "heun".
    """
    if not past:
        return (integrals.constant,)
    r0 = past[0] / h
    if len(past) == 1:
        slope = (integrals.linear if second_order == "heun" else integrals.constant / 2) / r0
        return (integrals.constant + slope, -slope)
    r1 = past[1] / h
    tilt = (integrals.linear * r0 + integrals.quadratic) / (r0 + r1)
    newer, older = (integrals.linear + tilt) / r0, -tilt / r1
    return (integrals.constant + newer, older - newer, -older)
