"""Exponential Adams methods: DPM-Solver (noise form), DEIS, and DPM-Solver++ with exact integrals."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import torch

from .dpmpp import DIFFERENCES, multistep_terms
from .grid import Node, Point, point_at
from .linear import LinearSolver, Update, add_updates, first_order, output_update
from .polynomials import Weights, exponential_weights, integrate, lagrange_basis


def _checked_order(name: str, solver_order: int) -> None:
    """Raises ValueError unless `solver_order` is 1, 2 or 3."""
    if solver_order not in (1, 2, 3):
        raise ValueError(f"{name} has orders 1, 2 and 3, got solver_order={solver_order}")


def _noise_update(start: Node, end: Point, deviation: tuple[float, ...]) -> Update:
    """Adds to the first-order step past eps weighted by `deviation` (sum 0, newest first)."""
    return add_updates(first_order(start, end), output_update("epsilon", start, 0.0, deviation))


@dataclass(frozen=True, eq=False)
class DPMSolver(LinearSolver):
    """DPM-Solver multistep in eps, orders 1 to 3, as published.

        x' = alpha'/alpha x - sigma' int_0^h e^(h-s) eps(lambda + s) ds
        lambda = log(alpha/sigma),  h = lambda' - lambda

    eps is a Taylor polynomial whose derivatives are divided differences of past eps. The orders of convergence are 1, 2
    and 2, for the reason given at `DPMpp`.

    Source: Lu et al. 2022, arXiv 2206.00927.

    Attributes:
        grid: the points that the trajectory visits.
        solver_order: number of eps combined, 1 to 3.
        second_order: "midpoint" or "heun", as in `DPMpp`.
        lower_order_final: see `multistep_terms`.
        euler_at_final: see `multistep_terms`.

    Raises:
        ValueError: if `solver_order` or `second_order` is unknown.
    """

    solver_order: int = 2
    second_order: str = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False

    def __post_init__(self) -> None:
        _checked_order("DPM-Solver", self.solver_order)
        if self.second_order not in DIFFERENCES:
            raise ValueError(f"unknown second_order {self.second_order!r}; known are {', '.join(DIFFERENCES)}")

    @property
    def order(self) -> int:
        """`solver_order`, at most 2."""
        return min(self.solver_order, 2)

    @property
    def output_type(self) -> str:
        """Prediction type of the outputs in the history."""
        return "epsilon"

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        return tuple(self._update(step) for step in range(self.grid.n_steps))

    def _update(self, step: int) -> Update:
        points = self.grid.points
        start, end = self.grid.nodes[step], points[step + 1]
        terms = multistep_terms(self.grid, step, self.solver_order, self.lower_order_final, self.euler_at_final)
        if terms == 1:
            return first_order(start, end)
        h = end.log_snr - start.log_snr
        r = [(points[step - k].log_snr - points[step - k - 1].log_snr) / h for k in range(terms - 1)]
        # Weights of h eps' and h^2 eps'': -sigma' times the integrals of e^(h-s) (s/h)^k / k! over [0, h].
        constant = math.expm1(h)
        linear = constant / h - 1
        quadratic = linear / h - 0.5
        if terms == 2:
            slope = -end.sigma * (linear if self.second_order == "heun" else constant / 2) / r[0]
            return _noise_update(start, end, (slope, -slope))
        tilt = -end.sigma * (linear * r[0] + quadratic) / (r[0] + r[1])
        newer, older = (-end.sigma * linear + tilt) / r[0], -tilt / r[1]
        return _noise_update(start, end, (newer, older - newer, -older))


VARIABLES: Final = ("log_rho", "rho", "t")


@dataclass(frozen=True, eq=False)
class DEIS(LinearSolver):
    """DEIS multistep, orders 1 to 3.

        x' = alpha'/alpha x + alpha' int_rho^rho' P(rho) d rho,    rho = sigma/alpha

    P is the polynomial in `variable` through the newest eps, integrated over rho exactly. The first steps use fewer
    eps.

    Source: Zhang & Chen 2022, arXiv 2204.13902.

    Attributes:
        grid: the points that the trajectory visits.
        solver_order: number of eps combined, 1 to 3.
        variable: "log_rho" (as in Diffusers), "rho", or "t" (the paper's tAB).
        lower_order_final: see `multistep_terms`.

    Raises:
        ValueError: if `solver_order` or `variable` is unknown.
    """

    solver_order: int = 2
    variable: str = "log_rho"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        _checked_order("DEIS", self.solver_order)
        if self.variable not in VARIABLES:
            raise ValueError(f"unknown variable {self.variable!r} of DEIS; known are {', '.join(VARIABLES)}")

    @property
    def order(self) -> int:
        """Order of convergence of the global error."""
        return self.solver_order

    @property
    def output_type(self) -> str:
        """Prediction type of the outputs in the history."""
        return "epsilon"

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        return tuple(self._update(step) for step in range(self.grid.n_steps))

    def _update(self, step: int) -> Update:
        points = self.grid.points
        start, end = self.grid.nodes[step], points[step + 1]
        terms = multistep_terms(self.grid, step, self.solver_order, self.lower_order_final, False)
        if terms == 1:
            return first_order(start, end)
        # With rho = e^-lambda: x' / alpha' = x / alpha - integral of e^-lambda eps over the step in lambda.
        lambdas = np.array([points[step - k].log_snr for k in range(terms)])
        of_lambda = self._variable()
        nodes = of_lambda(lambdas)

        def weighted_basis(at: Weights) -> Weights:
            return lagrange_basis(nodes, of_lambda(at)) * np.exp(-at)[:, None]

        total = -end.alpha * integrate(weighted_basis, start.log_snr, end.log_snr)
        total[0] -= total.sum()  # the first-order step contains the sum of the weights
        return _noise_update(start, end, tuple(total.tolist()))

    def _variable(self) -> Callable[[Weights], Weights]:
        """Returns the extrapolation variable as a function of log-SNR."""
        if self.variable == "log_rho":
            return lambda at: -at
        if self.variable == "rho":
            return lambda at: np.exp(-at)
        return lambda at: self.grid.schedule.t_from_log_snr(torch.as_tensor(at)).numpy()


@dataclass(frozen=True, eq=False)
class ExponentialAdams(LinearSolver):
    """Exponential Adams-Bashforth in x0: the methods that DPM-Solver++ 2M and 3M approximate, with exact integrals.

        x' = sigma'/sigma x + alpha' int_0^h e^(s-h) P(s) ds

    P is the polynomial through the newest x0 in log-SNR. Order 2 starts with Euler, order 3 with a second-order step of
    two evaluations, so that the start keeps the order: N steps take N or N+1 evaluations.

    Source: Hochbruck & Ostermann 2010, Exponential integrators, section 2.5.

    Attributes:
        grid: the points that the trajectory visits.
        solver_order: 2 or 3.

    Raises:
        ValueError: if `solver_order` is neither 2 nor 3.
    """

    solver_order: int = 3

    def __post_init__(self) -> None:
        if self.solver_order not in (2, 3):
            raise ValueError(f"ExponentialAdams has orders 2 and 3, got solver_order={self.solver_order}")

    @property
    def order(self) -> int:
        """Order of convergence of the global error."""
        return self.solver_order

    @cached_property
    def _middle(self) -> Node | None:
        """The extra evaluation of the first step, at its midpoint in log-SNR; None if there is none."""
        start, end = self.grid.points[:2]
        if self.solver_order < 3 or start.pure_noise or end.pure_noise or end.sigma == 0:
            return None
        schedule = self.grid.schedule
        t = float(schedule.t_from_log_snr((start.log_snr + end.log_snr) / 2))
        return self.grid.node(point_at(schedule, t))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The grid's nodes, and the midpoint of the first step if there is one."""
        first, *rest = self.grid.nodes
        return (first, *rest) if self._middle is None else (first, self._middle, *rest)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        points = self.grid.points
        updates = [self._update(step) for step in range(self.grid.n_steps)]
        if self._middle is not None:
            start, end = points[:2]
            h = end.log_snr - start.log_snr
            weights = end.alpha * exponential_weights([h / 2, 0.0], h)
            whole = Update(0.0, tuple(weights.tolist()), anchor=end.sigma / start.sigma)
            updates[:1] = [replace(first_order(start, self._middle), anchors=True), whole]
        return tuple(updates)

    def _update(self, step: int) -> Update:
        points = self.grid.points
        start, end = points[step], points[step + 1]
        terms = multistep_terms(self.grid, step, self.solver_order, False, False)
        if terms == 1:
            return first_order(start, end)
        lambdas = [points[step - k].log_snr - start.log_snr for k in range(terms)]
        weights = (end.alpha * exponential_weights(lambdas, end.log_snr - start.log_snr)).tolist()
        if self._middle is not None and step < terms:
            weights.insert(step, 0.0)  # the output at the midpoint of the first step
        return Update(end.sigma / start.sigma, tuple(weights))
