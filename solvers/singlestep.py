"""DPM-Solver++ singlestep: 2S and 3S, and their SDE forms (Lu et al. 2022, arXiv 2211.01095)."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

from .dpmpp import DIFFERENCES, Integrals
from .linear import NoisySolver, Update


@dataclass(frozen=True, eq=False)
class DPMppSinglestep(NoisySolver):
    """DPM-Solver++ 2S and 3S as published: grid points are taken in groups of `solver_order`.

    Every step of a group restarts from the group's first x and combines the group's outputs so far. With m_s the x0 at
    the group's start and m_r the x0 at the fraction r of the step h, order 2 ("midpoint") is

        x' = sigma'/sigma x + alpha' (1 - e^-h) (m_s + (m_r - m_s) / (2 r)).

    Source: Lu et al. 2022, arXiv 2211.01095.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source, needed if eta > 0.
        solver_order: size of a group, 1 to 3. A last group that is cut short has lower order.
        second_order: "midpoint" or "heun", as in `DPMpp`.
        lower_order_final: make the last step a group of its own; always so if the grid ends at sigma = 0.
        eta: fraction of noise replaced, as in `DPMpp`.

    Raises:
        ValueError: if an option is out of range or unknown.
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
        self._require_falling(self.eta > 0)

    @property
    def order(self) -> int:
        """1 for eta > 0; else `solver_order`, but 2 for order 3 with "midpoint"."""
        exact = self.solver_order < 3 or self.second_order == "heun"
        return 1 if self.eta else self.solver_order if exact else 2

    @cached_property
    def _positions(self) -> tuple[int, ...]:
        """Position of every step in its group, 1 to `solver_order`."""
        steps, order = self.grid.n_steps, self.solver_order
        alone_last = self.grid.points[-1].sigma == 0 or self.grid.points[-1].pure_noise
        positions = [step % order + 1 for step in range(steps)]
        if (self.lower_order_final or alone_last) and steps % order == 0:
            positions[-order:] = [1, 2, 1] if order == 3 else [1] * order
        if alone_last:
            positions[-1] = 1
        alone = min(self.grid.noise_points, steps - 1)
        if alone:  # from pure noise a group would be infinitely long in log-SNR
            positions = [1] * alone + positions[:-alone]
            positions[-1] = 1
        return tuple(positions)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        return tuple(self._update(step) for step in range(self.grid.n_steps))

    def _update(self, step: int) -> Update:
        position, points = self._positions[step], self.grid.points
        first, end = points[step + 1 - position], points[step + 1]
        integrals = Integrals.of_step(first, end, self.eta)
        h = end.log_snr - first.log_snr
        # Positions of the outputs in the step, in units of h, newest first.
        shares = [(points[step - k].log_snr - first.log_snr) / h for k in range(position - 1)]
        span = (first.noise_fraction, end.noise_fraction)
        update = Update(0.0, self._weights(integrals, shares), integrals.keep, noise=integrals.noise, span=span)
        return replace(update, keep=integrals.keep, anchor=0.0, anchors=True) if position == 1 else update

    def _weights(self, integrals: Integrals, shares: list[float]) -> tuple[float, ...]:
        """Weights of the group's x0, newest first, for outputs at the fractions `shares` of the step."""
        if not shares:
            return (integrals.constant,)
        if len(shares) == 1:
            slope = (integrals.linear if self.second_order == "heun" else integrals.constant / 2) / shares[0]
            return (slope, integrals.constant - slope)
        late, early = shares
        if self.second_order == "midpoint":
            slope = integrals.linear / late
            return (slope, 0.0, integrals.constant - slope)
        # Weights by h x0' and h^2 x0'' at the start, of the parabola through the three outputs.
        newest = (-early * integrals.linear + 2 * integrals.quadratic) / (late * (late - early))
        middle = (late * integrals.linear - 2 * integrals.quadratic) / (early * (late - early))
        return (newest, middle, integrals.constant - newest - middle)
