"""DPM-Solver++ multistep, orders 1 to 3 (Lu et al. 2022, arXiv 2211.01095)."""

import math
from dataclasses import dataclass
from functools import cached_property

from .base import LinearMultistep, Update
from .euler import first_order_update, log_snr_steps

DIFFERENCES = ("midpoint", "heun")


@dataclass(frozen=True, eq=False)
class DPMpp(LinearMultistep):
    """DPM-Solver++ 1, 2M and 3M, in the published form.

    `solver_order` is the number of x0 combined. Early steps, and with `lower_order_final` the last ones of a run of
    fewer than 15 steps, take fewer; a step that ends at sigma = 0 always takes one, as does the last one with
    `euler_at_final`. `second_order` names the weight of the first difference in 2M: "midpoint" (1 - e^-h)/2, or "heun",
    the exact integral. Global order 1, 2 and 2: published 3M halves the second difference, see docs/solvers.md.
    """

    solver_order: int = 2
    second_order: str = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False

    def __post_init__(self) -> None:
        if self.solver_order not in (1, 2, 3):
            raise ValueError(f"DPM-Solver++ has orders 1, 2 and 3, got solver_order={self.solver_order}")
        if self.second_order not in DIFFERENCES:
            raise ValueError(f"unknown second_order {self.second_order!r}; known are {', '.join(DIFFERENCES)}")

    @property
    def order(self) -> int:
        return min(self.solver_order, 2)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return tuple(self._update(step) for step in range(self.grid.n_steps))

    def _terms(self, step: int) -> int:
        """How many x0 the step combines."""
        left = self.grid.n_steps - step
        few = self.lower_order_final and self.grid.n_steps < 15
        if left == 1 and (few or self.euler_at_final or float(self.grid.sigma[-1]) == 0):
            return 1
        return min(self.solver_order, step + 1, left if few else self.solver_order)

    def _update(self, step: int) -> Update:
        terms, first = self._terms(step), first_order_update(self.grid, step)
        if terms == 1:
            return first
        steps = log_snr_steps(self.grid)
        h, alpha = steps[step], float(self.grid.alpha[step + 1])
        decay = math.expm1(-h)
        linear = alpha * (decay / h + 1)  # integral of e^(s-h) s/h, times alpha' h
        r0 = steps[step - 1] / h
        if terms == 2:
            slope = (linear if self.second_order == "heun" else -alpha * decay / 2) / r0
            return Update(first.keep, (first.weights[0] + slope, -slope))
        r1 = steps[step - 2] / h
        quadratic = alpha * (0.5 - (decay + h) / h**2)
        # In terms of D1_0 = (m0 - m1)/r0 and D1_1 = (m1 - m2)/r1, m the x0 from newest to oldest.
        tilt = (linear * r0 + quadratic) / (r0 + r1)
        newer, older = (linear + tilt) / r0, -tilt / r1
        return Update(first.keep, (first.weights[0] + newer, older - newer, -older))
