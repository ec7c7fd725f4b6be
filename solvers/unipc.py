"""UniPC, a predictor-corrector without extra evaluations."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .linear import LinearSolver, Update, first_order, plus

SCALES = ("bh1", "bh2")


@dataclass(frozen=True, eq=False)
class UniPC(LinearSolver):
    """UniPC of order 1 to 3 in x0 (Zhao et al. 2023, arXiv 2302.04867).

    Every evaluation first corrects the x it was made at, with the new answer, and then predicts from there; both are
    one linear step. `scale` is the B(h) of the paper: "bh1" h, "bh2" e^h - 1 (both of -h for x0). `lower_order_final`
    lowers the order towards the end; `disable_corrector` lists steps whose result is not corrected. The order is p + 1,
    but 2 with `lower_order_final`, whose last step is of first order.
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
        return 2 if self.lower_order_final else self.solver_order + 1

    def _terms(self, step: int) -> int:
        """How many answers the predictor of a step combines."""
        points = self.grid.points
        if points[step + 1].sigma == 0:
            return 1
        usable = step + 1 - (step > 0 and points[0].alpha == 0)  # pure noise, if a node at all, is the first one
        return min(self.solver_order, usable, self.grid.n_steps - step if self.lower_order_final else 3)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return tuple(self._update(step) for step in range(self.grid.n_steps))

    def _update(self, step: int) -> Update:
        """The correction of x, and the prediction from the corrected x."""
        correction = self._correction(step)
        ahead = self._predictor(step)
        led = Update(0.0, tuple(ahead.keep * weight for weight in correction))
        return plus(ahead, led)

    def _predictor(self, step: int) -> Update:
        """x' from x at `step`; weights of the answer at `step` and before."""
        start, end = self.grid.points[step : step + 2]
        terms = self._terms(step)
        first = first_order(start, end)
        if terms == 1:
            return first
        shares = self._shares(step, terms)
        rhs, factor = self._system(end.log_snr - start.log_snr, terms)
        # Of two terms the paper takes 1/2, which is as accurate.
        rho = np.array([0.5]) if terms == 2 else np.linalg.solve(_powers(shares), rhs[:-1])
        differences = -end.alpha * factor * rho / shares
        return plus(first, Update(0.0, (-float(differences.sum()), *differences.tolist())))

    def _correction(self, step: int) -> tuple[float, ...]:
        """What to add to x at `step`: weights of the answer there and of those before."""
        points = self.grid.points
        if step == 0 or step - 1 in self.disable_corrector or points[step - 1].alpha == 0:
            return ()
        start, end, terms = points[step - 1], points[step], self._terms(step - 1)
        shares = np.append(self._shares(step - 1, terms), 1.0)
        rhs, factor = self._system(end.log_snr - start.log_snr, terms)
        rho = np.array([0.5]) if terms == 1 else np.linalg.solve(_powers(shares), rhs)
        differences = -end.alpha * factor * rho / shares
        corrected = plus(
            first_order(start, end),
            Update(0.0, (-float(differences.sum()), *differences[:-1].tolist())),
        )
        predicted = self._predictor(step - 1)
        older = [new - old for new, old in zip(corrected.weights, predicted.weights, strict=True)]
        return (float(differences[-1]), *older)

    def _shares(self, step: int, terms: int) -> np.ndarray:
        """Where the older answers lie, in units of the step's h, all below 0."""
        points = self.grid.points
        h = points[step + 1].log_snr - points[step].log_snr
        return np.array([(points[step - k].log_snr - points[step].log_snr) / h for k in range(1, terms)])

    def _system(self, h: float, terms: int) -> tuple[np.ndarray, float]:
        """The right-hand side b_k = h phi_{k+1}(h) k! / B(h), k = 1 .. terms, and B(h), both at -h."""
        back = -h
        factor = back if self.scale == "bh1" else math.expm1(back)
        phi, rhs = math.expm1(back) / back - 1, []
        for k in range(1, terms + 1):
            rhs.append(phi * math.factorial(k) / factor)
            phi = phi / back - 1 / math.factorial(k + 1)
        return np.array(rhs), factor


def _powers(shares: np.ndarray) -> np.ndarray:
    """Rows share^0, share^1, ... of the order conditions."""
    return np.vander(shares, increasing=True).T
