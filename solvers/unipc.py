"""UniPC: a predictor-corrector without extra evaluations (Zhao et al. 2023, arXiv 2302.04867)."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .linear import LinearSolver, Update, add_updates, first_order

SCALES = ("bh1", "bh2")


@dataclass(frozen=True, eq=False)
class UniPC(LinearSolver):
    """UniPC of order 1 to 3 in x0.

    Each evaluation first corrects the x it was made at and then predicts from the corrected x; both are one linear
    step. With differences D_m = x0(lambda_m) - x0(lambda) at r_m = (lambda_m - lambda) / h,

        x' = sigma'/sigma x + alpha' (1 - e^-h) x0 - alpha' B(-h) sum_m rho_m D_m / r_m,

    where rho solves the order conditions over past points (predictor), or over past points and the new one (corrector).

    Source: Zhao et al. 2023, arXiv 2302.04867.

    Attributes:
        grid: the points that the trajectory visits.
        solver_order: p, the number of x0 that the predictor combines, 1 to 3.
        scale: B(h) of the paper: "bh1" is h, "bh2" is e^h - 1.
        lower_order_final: lower the order towards the end.
        disable_corrector: indices of steps whose result is not corrected.

    Raises:
        ValueError: if `solver_order` or `scale` is unknown.
    """

    solver_order: int = 2
    scale: str = "bh2"
    lower_order_final: bool = True
    disable_corrector: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.solver_order not in (1, 2, 3):
            raise ValueError(f"UniPC has orders 1, 2 and 3, got solver_order={self.solver_order}")
        if self.scale not in SCALES:
            raise ValueError(f"unknown scale {self.scale!r} of UniPC; known are {', '.join(SCALES)}")

    @property
    def order(self) -> int:
        """Returns p + 1, but 2 with `lower_order_final`, whose last step is first-order."""
        return 2 if self.lower_order_final else self.solver_order + 1

    def _terms(self, step: int) -> int:
        """Number of x0 that the predictor of a step combines."""
        points = self.grid.points
        if points[step + 1].sigma == 0 or points[step + 1].pure_noise:
            return 1
        usable = step + 1 - min(self.grid.noise_points, step)
        return min(self.solver_order, usable, self.grid.n_steps - step if self.lower_order_final else 3)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        return tuple(self._update(step) for step in range(self.grid.n_steps))

    def _update(self, step: int) -> Update:
        """Returns the correction of x followed by the prediction from the corrected x."""
        correction = self._correction(step)
        prediction = self._predictor(step)
        carried = Update(0.0, tuple(prediction.keep * weight for weight in correction))
        return add_updates(prediction, carried)

    def _predictor(self, step: int) -> Update:
        """Returns the step from x at `step`, with weights of x0 at `step` and before."""
        start, end = self.grid.points[step : step + 2]
        terms = self._terms(step)
        first = first_order(start, end)
        if terms == 1:
            return first
        shares = self._shares(step, terms)
        rhs, factor = self._system(end.log_snr - start.log_snr, terms)
        # With two terms the paper sets rho = 1/2, which has the same order.
        rho = np.array([0.5]) if terms == 2 else np.linalg.solve(_powers(shares), rhs[:-1])
        differences = -end.alpha * factor * rho / shares
        return add_updates(first, Update(0.0, (-float(differences.sum()), *differences.tolist())))

    def _correction(self, step: int) -> tuple[float, ...]:
        """Returns what to add to x at `step`: weights of x0 there and before."""
        points = self.grid.points
        if step == 0 or step - 1 in self.disable_corrector or points[step - 1].pure_noise:
            return ()
        start, end, terms = points[step - 1], points[step], self._terms(step - 1)
        shares = np.append(self._shares(step - 1, terms), 1.0)
        rhs, factor = self._system(end.log_snr - start.log_snr, terms)
        rho = np.array([0.5]) if terms == 1 else np.linalg.solve(_powers(shares), rhs)
        differences = -end.alpha * factor * rho / shares
        corrected = add_updates(
            first_order(start, end),
            Update(0.0, (-float(differences.sum()), *differences[:-1].tolist())),
        )
        predicted = self._predictor(step - 1)
        older = [new - old for new, old in zip(corrected.weights, predicted.weights, strict=True)]
        return (float(differences[-1]), *older)

    def _shares(self, step: int, terms: int) -> np.ndarray:
        """Positions of past outputs relative to the step's start, in units of h, all below 0."""
        points = self.grid.points
        h = points[step + 1].log_snr - points[step].log_snr
        return np.array([(points[step - k].log_snr - points[step].log_snr) / h for k in range(1, terms)])

    def _system(self, h: float, terms: int) -> tuple[np.ndarray, float]:
        """Returns the right-hand side b_k = h phi_{k+1}(h) k! / B(h), k = 1 .. terms, and B(h), both at -h."""
        minus_h = -h
        factor = minus_h if self.scale == "bh1" else math.expm1(minus_h)
        phi, rhs = math.expm1(minus_h) / minus_h - 1, []
        for k in range(1, terms + 1):
            rhs.append(phi * math.factorial(k) / factor)
            phi = phi / minus_h - 1 / math.factorial(k + 1)
        return np.array(rhs), factor


def _powers(shares: np.ndarray) -> np.ndarray:
    """Rows share^0, share^1, ... of the order conditions."""
    return np.vander(shares, increasing=True).T
