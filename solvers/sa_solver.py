"""SA-Solver: a stochastic Adams predictor and corrector in x0 (Xue et al. 2023, arXiv 2309.05019)."""

import math
from dataclasses import dataclass
from functools import cached_property

from .dpmpp import Integrals
from .grid import Node
from .linear import NoisySolver, Update
from .polynomials import exponential_weights
from .schedule import RectifiedFlow
from .vp_discrete import VPDiscrete

# Timesteps, of 1000, between which the published default adds noise.
_PUBLISHED_SPAN = (200.0, 800.0)


@dataclass(frozen=True, eq=False)
class SASolver(NoisySolver):
    """Stochastic Adams predictor and corrector that share one evaluation per step.

    x at a point is corrected once its x0 is known, then advanced. Over a step h in log-SNR,

        x' = sigma'/sigma e^(-tau^2 h) x + sum_j b_j x0_j + sigma' sqrt(1 - e^(-2 tau^2 h)) z
        b_j = alpha' (1 + tau^2) int_0^h e^((1 + tau^2)(s - h)) l_j(s) ds,

    l_j being the Lagrange polynomials through past x0 (for the corrector also the new one). The corrector keeps the
    predictor's noise. With two terms, as in Diffusers, the first moment of the exponential is replaced by h^2/2
    (predictor) and h/2 (corrector), which has the same order.

    Source: Xue et al. 2023, arXiv 2309.05019.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source, needed if tau > 0.
        predictor_order: number of x0 that the predictor combines, 1 to 3.
        corrector_order: number of x0 that the corrector combines, the new one included, 1 to 4.
        tau: amount of noise, 0 for the ODE. Noise is added in steps whose first timestep lies in `span`.
        span: (lowest, highest) timestep in the network's units. None is the published (200, 800) on tables and
            rectified flow, and unlimited on other schedules.
        lower_order_final: lower the orders towards the end, as published.
        correct_end: evaluate at the end of the grid, if sigma > 0 there, and correct x. Otherwise the last point is not
            corrected.

    Raises:
        ValueError: if an order is out of range, or `tau` is negative or not finite.
    """

    predictor_order: int = 2
    corrector_order: int = 2
    tau: float = 1.0
    span: tuple[float, float] | None = None
    lower_order_final: bool = True
    correct_end: bool = False

    def __post_init__(self) -> None:
        for name, most in (("predictor_order", 3), ("corrector_order", 4)):
            if getattr(self, name) not in range(1, most + 1):
                raise ValueError(f"SASolver.{name} must be 1 to {most}, got {getattr(self, name)}")
        if not 0 <= self.tau < math.inf:
            raise ValueError(f"SASolver.tau must be 0 or more and finite, got {self.tau}")
        self._require_falling(self.tau > 0)

    @property
    def order(self) -> int:
        """1 for tau > 0; else min(predictor_order + 1, corrector_order), at most 2 with `lower_order_final`."""
        alone = min(self.predictor_order + 1, self.corrector_order)
        return 1 if self.tau else min(alone, 2) if self.lower_order_final else alone

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The grid's nodes, and its end with `correct_end`."""
        extra = self.correct_end and self.grid.points[-1].sigma > 0
        return (*self.grid.nodes, self.grid.node(self.grid.points[-1])) if extra else self.grid.nodes

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        return tuple(self._update(step) for step in range(self.n_evals))

    def _update(self, step: int) -> Update:
        """Returns the correction of x at `step` followed by the prediction from the corrected x."""
        correction = self._correction(step)
        if step == self.grid.n_steps:
            return Update(1.0, correction or (0.0,))
        integrals, weights = self._integrals(step), self._predictor(step)
        size = max(len(correction), len(weights))
        carried = [integrals.keep * weight for weight in _padded(correction, size)]
        total = tuple(a + b for a, b in zip(carried, _padded(weights, size), strict=True))
        span = (self.grid.points[step].noise_fraction, self.grid.points[step + 1].noise_fraction)
        return Update(integrals.keep, total, noise=integrals.noise, span=span)

    def _share(self, step: int) -> float:
        """tau^2 of a step, 0 outside `span`."""
        published = isinstance(self.grid.schedule, (VPDiscrete, RectifiedFlow))
        low, high = self.span or (_PUBLISHED_SPAN if published else (-math.inf, math.inf))
        return self.tau**2 if low <= self.grid.nodes[step].timestep <= high else 0.0

    def _integrals(self, step: int) -> Integrals:
        start, end = self.grid.points[step : step + 2]
        return Integrals.of_step(start, end, self._share(step))

    def _terms(self, step: int) -> tuple[int, int]:
        """Number of x0 that the predictor and the corrector of a step combine."""
        points = self.grid.points
        if points[step].pure_noise or points[step + 1].pure_noise or points[step + 1].sigma == 0:
            return 1, 1
        usable = step + 1 - min(self.grid.noise_points, step)
        left = self.n_evals - step if self.lower_order_final else usable
        return min(self.predictor_order, usable, left), min(self.corrector_order, usable + 1, left + 1)

    def _predictor(self, step: int) -> tuple[float, ...]:
        """Weights of x0 at `step` and before."""
        terms, integrals = self._terms(step)[0], self._integrals(step)
        if terms == 1:
            return (integrals.constant,)
        offsets = self._offsets(step, terms)
        if terms == 2:
            slope = self._gain(step) * self._length(step) ** 2 / 2 / -offsets[1]
            return (integrals.constant + slope, -slope)
        return self._exact(step, offsets)

    def _correction(self, step: int) -> tuple[float, ...]:
        """Returns what to add to x at `step`: weights of x0 there and before; nothing after a step from alpha = 0."""
        last = step - 1
        if last < 0 or self.grid.points[last].pure_noise:
            return ()
        terms, integrals, h = self._terms(last)[1], self._integrals(last), self._length(last)
        if terms == 1:
            corrected: tuple[float, ...] = (integrals.constant,)
        elif terms == 2:
            slope = self._gain(last) * h / 2
            corrected = (slope, integrals.constant - slope)
        else:
            corrected = self._exact(last, [h, *self._offsets(last, terms - 1)])
        predicted = (0.0, *self._predictor(last))
        size = max(len(corrected), len(predicted))
        return tuple(new - old for new, old in zip(_padded(corrected, size), _padded(predicted, size), strict=True))

    def _length(self, step: int) -> float:
        """Length of a step in log-SNR."""
        start, end = self.grid.points[step : step + 2]
        return end.log_snr - start.log_snr

    def _gain(self, step: int) -> float:
        """Factor alpha' (1 + tau^2) of the integrals."""
        return self.grid.points[step + 1].alpha * (1 + self._share(step))

    def _offsets(self, step: int, terms: int) -> list[float]:
        """Log-SNR of the points of past x0 relative to the start of the step, newest first."""
        points = self.grid.points
        return [points[step - k].log_snr - points[step].log_snr for k in range(terms)]

    def _exact(self, step: int, offsets: list[float]) -> tuple[float, ...]:
        """Weights of x0 at the given offsets by exact integration."""
        rate = 1 + self._share(step)
        return tuple((self._gain(step) * exponential_weights(offsets, self._length(step), rate)).tolist())


def _padded(weights: tuple[float, ...], size: int) -> tuple[float, ...]:
    """Appends zeros up to length `size`."""
    return (*weights, *([0.0] * (size - len(weights))))
