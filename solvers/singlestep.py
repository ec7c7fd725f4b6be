"""DPM-Solver++ singlestep: 2S and 3S, and their SDE forms (Lu et al. 2022, arXiv 2211.01095)."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

from .dpmpp import DIFFERENCES, Integrals
from .linear import NoisySolver, Update


@dataclass(frozen=True, eq=False)
class DPMppSinglestep(NoisySolver):
    """DPM-Solver++ 2S and 3S as published: points of the grid are taken in groups of `solver_order`.

    Every step of a group starts again from the group's first x, and combines the group's answers so far. `second_order`
    ("midpoint" or "heun") and `eta` as in `DPMpp`. A last group that is cut short is of lower order; with
    `lower_order_final`, and wherever the grid ends at sigma = 0, the last step is a group of its own.
    """

    solver_order: int = 2
    second_order: str = "midpoint"
    lower_order_final: bool = False
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.solver_order not in (1, 2, 3):
            raise ValueError(f"singlestep DPM-Solver++ has orders 1, 2 and 3, got solver_order={self.solver_order}")
        if self.second_order not in DIFFERENCES:
            raise ValueError(f"unknown second_order {self.second_order!r}; known are {', '.join(DIFFERENCES)}")
        if not 0 <= self.eta < math.inf:
            raise ValueError(f"DPMppSinglestep.eta must be 0 or more and finite, got {self.eta}")

    @property
    def order(self) -> int:
        exact = self.solver_order < 3 or self.second_order == "heun"
        return 1 if self.eta else self.solver_order if exact else 2

    @cached_property
    def _places(self) -> tuple[int, ...]:
        """For every step its place in its group, 1 to `solver_order`."""
        steps, order = self.grid.n_steps, self.solver_order
        clean = self.grid.points[-1].sigma == 0
        places = [step % order + 1 for step in range(steps)]
        if (self.lower_order_final or clean) and steps % order == 0:
            places[-order:] = [1, 2, 1] if order == 3 else [1] * order
        if clean:
            places[-1] = 1
        if self.grid.points[0].alpha == 0 and steps > 1:
            places[1:] = places[:-1]  # from alpha = 0 a group would be infinitely long in log-SNR
            places[-1] = 1
        return tuple(places)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return tuple(self._update(step) for step in range(self.grid.n_steps))

    def _update(self, step: int) -> Update:
        place, points = self._places[step], self.grid.points
        first, end = points[step + 1 - place], points[step + 1]
        over = Integrals.over(first, end, self.eta)
        h = end.log_snr - first.log_snr
        # Where the answers lie in the step, as shares of h, newest first.
        shares = [(points[step - k].log_snr - first.log_snr) / h for k in range(place - 1)]
        span = (first.noise_fraction, end.noise_fraction)
        update = Update(0.0, self._weights(over, shares), over.keep, noise=over.noise, span=span)
        return replace(update, keep=over.keep, anchor=0.0, anchors=True) if place == 1 else update

    def _weights(self, over: Integrals, shares: list[float]) -> tuple[float, ...]:
        if not shares:
            return (over.constant,)
        if len(shares) == 1:
            slope = (over.linear if self.second_order == "heun" else over.constant / 2) / shares[0]
            return (slope, over.constant - slope)
        late, early = shares
        if self.second_order == "midpoint":
            slope = over.linear / late
            return (slope, 0.0, over.constant - slope)
        # Derivatives at the start of the parabola through the three answers: h x0' and h^2 x0''.
        newest = (-early * over.linear + 2 * over.quadratic) / (late * (late - early))
        middle = (late * over.linear - 2 * over.quadratic) / (early * (late - early))
        return (newest, middle, over.constant - newest - middle)
