"""ER-SDE: multistep solvers of extended reverse-time SDEs (Cui et al. 2023, arXiv 2309.06169)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from .dpmpp import multistep_terms
from .linear import NoisySolver, Update
from .polynomials import Weights, integrate


@dataclass(frozen=True)
class NoiseScale:
    """How much noise an extended reverse SDE adds, as psi(l) = phi(l) / l with l = sigma/alpha.

    Attributes:
        log_psi: maps log l to log psi.
        slope: maps log l to d log psi / d log l.
    """

    log_psi: Callable[[Weights], Weights]
    slope: Callable[[Weights], Weights]


def _er_log_psi(log_l: Weights) -> Weights:
    return np.logaddexp(np.exp(0.3 * log_l), math.log(10))


def _er_slope(log_l: Weights) -> Weights:
    power: Weights = np.exp(0.3 * log_l)
    slope: Weights = 0.3 * power / (1 + 10 * np.exp(-power))
    return slope


NOISE_SCALES: Final = {
    "er_sde": NoiseScale(_er_log_psi, _er_slope),
    "ode": NoiseScale(np.zeros_like, np.zeros_like),
    "sde": NoiseScale(lambda log_l: log_l, np.ones_like),
}
CURVATURES: Final = ("exact", "published")


@dataclass(frozen=True, eq=False)
class ERSDE(NoisySolver):
    """Multistep solver of the extended reverse SDE, orders 1 to 3, in l = sigma/alpha.

        x' = sigma'/sigma psi'/psi x + alpha' phi' int_l'^l phi_l / phi^2 P(l) dl + sigma' sqrt(1 - (psi'/psi)^2) z
        phi(l) = l psi(l)

    P is the polynomial in l through the newest x0. The noise scale decides how much noise is replaced: "er_sde" has
    psi = e^(l^0.3) + 10, the paper's choice; "ode" has psi = 1, which adds no noise and is the exponential integrator
    of DPM-Solver++; "sde" has psi = l, which is the reverse SDE. The integrals are computed by Gauss-Legendre
    quadrature, in place of the published sum of 200 rectangles, whose error is of first order.

    The published third stage takes the difference of the last two x0 for the slope at the newest one, although it
    is the slope half way between them, and so is of second order; "exact" corrects it. With noise the order is 1.

    Source: Cui et al. 2023, arXiv 2309.06169.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source; not needed with "ode".
        solver_order: number of x0 combined, 1 to 3.
        scale: noise scale: "er_sde", "ode" or "sde".
        curvature: third stage: "exact" or "published".

    Raises:
        ValueError: if an option is unknown, or if noise is drawn on a rising grid.
    """

    solver_order: int = 3
    scale: str = "er_sde"
    curvature: str = "exact"

    def __post_init__(self) -> None:
        if self.solver_order not in (1, 2, 3):
            raise ValueError(f"ER-SDE has orders 1, 2 and 3, got solver_order={self.solver_order}")
        for name, known in (("scale", NOISE_SCALES), ("curvature", CURVATURES)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown ERSDE.{name} {getattr(self, name)!r}; known are {', '.join(known)}")
        self._require_falling(self.scale != "ode")

    @property
    def order(self) -> int:
        """1 with noise; else `solver_order`, at most 2 with the published third stage."""
        exact = self.solver_order if self.curvature == "exact" else min(self.solver_order, 2)
        return exact if self.scale == "ode" else 1

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        return tuple(self._update(step) for step in range(self.grid.n_steps))

    def _update(self, step: int) -> Update:
        points = self.grid.points
        start, end = points[step], points[step + 1]
        log_l = -np.array([start.log_snr, end.log_snr])
        log_start, log_end = NOISE_SCALES[self.scale].log_psi(log_l).tolist()
        change = log_end - log_start
        keep = end.sigma / start.sigma * math.exp(change)
        span = (start.noise_fraction, end.noise_fraction)
        noise = end.sigma * math.sqrt(-math.expm1(2 * change)) if self.scale != "ode" else 0.0
        first, *others = self._differences(step, multistep_terms(self.grid, step, self.solver_order, False, False))
        return Update(keep, (end.alpha - keep * start.alpha + first, *others), noise=noise, span=span)

    def _differences(self, step: int, terms: int) -> tuple[float, ...]:
        """Weights of the newest x0, of sum 0, that the slope and the curvature of P add to the first-order step."""
        if terms == 1:
            return (0.0,)
        points = self.grid.points
        ratios = [point.sigma / point.alpha for point in points[step + 1 - terms : step + 1]][::-1]
        linear, quadratic = self._moments(step, ratios[0])
        gap = ratios[0] - ratios[1]
        if terms == 2:
            return (linear / gap, -linear / gap)
        curvature = quadratic + (linear * gap / 2 if self.curvature == "exact" else 0.0)
        tilt = 2 * curvature / (ratios[0] - ratios[2])
        newer, older = (linear + tilt) / gap, tilt / (ratios[1] - ratios[2])
        return (newer, -newer - older, older)

    def _moments(self, step: int, start: float) -> tuple[float, float]:
        """Weights of the first and second derivative of x0 in l at the start of a step, where l is `start`."""
        scale, (here, there) = NOISE_SCALES[self.scale], self.grid.points[step : step + 2]

        def rate(log_snr: Weights) -> Weights:
            """log(1/phi), whose exponential is integrated."""
            return log_snr - scale.log_psi(-log_snr)

        last = rate(np.array([there.log_snr]))

        def integrand(log_snr: Weights) -> Weights:
            weight = np.exp(rate(log_snr) - last) * (1 + scale.slope(-log_snr))
            ahead = np.exp(-log_snr) - start
            return (weight * np.stack([ahead, ahead**2 / 2])).T

        linear, quadratic = there.alpha * integrate(integrand, here.log_snr, there.log_snr)
        return float(linear), float(quadratic)
