"""DPM-Solver++ SDE: two first-order steps of the reverse SDE per step (k-diffusion's dpmpp_sde)."""

import math
from dataclasses import dataclass
from functools import cached_property

from .coordinates import time_at_ratio
from .dpmpp import Integrals
from .grid import Node, Point, point_at
from .linear import NoisySolver, Update


@dataclass(frozen=True, eq=False)
class DPMppSDE(NoisySolver):
    """Evaluates half way in log-SNR, and makes the step from its start with the x0 found there.

    These are the steps of DPM-Solver++ 2S (midpoint) on a grid with every middle added as a point (Lu et al. 2022,
    arXiv 2211.01095). The middle and the step draw noise of their own spans, both of which begin at the step's start:
    with `BrownianNoise` the two are correlated as increments of one path. A step from alpha = 0 or to sigma = 0 has
    no middle and is of first order, so N steps to clean data are 2N - 1 evaluations.

    Args:
        eta: share of noise replaced: 1 is the reverse SDE as published (order 1), 0 the ODE (order 2).

    Raises:
        ValueError: if `eta` is negative, not a number or infinite.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta < math.inf:
            raise ValueError(f"DPMppSDE.eta must be 0 or more and finite, got {self.eta}")

    @property
    def order(self) -> int:
        return 1 if self.eta else 2

    @cached_property
    def _middles(self) -> tuple[Node | None, ...]:
        """The middle of every step, if it has one."""
        return tuple(self._middle(index) for index in range(self.grid.n_steps))

    def _middle(self, index: int) -> Node | None:
        start, end = self.grid.points[index : index + 2]
        if start.alpha == 0 or end.sigma == 0:
            return None
        ratio = math.exp(-(start.log_snr + end.log_snr) / 2)
        return self.grid.node(point_at(self.grid.schedule, time_at_ratio(self.grid.schedule, ratio)))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        pairs = zip(self.grid.nodes, self._middles, strict=True)
        return tuple(node for pair in pairs for node in pair if node is not None)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        updates: list[Update] = []
        for index, middle in enumerate(self._middles):
            start, end = self.grid.points[index : index + 2]
            if middle is None:
                updates.append(self._update(start, end))
            else:
                updates += [self._update(start, middle), self._update(start, end, again=True)]
        return tuple(updates)

    def _update(self, start: Point, end: Point, *, again: bool = False) -> Update:
        """The first-order step from `start`: x there is the state, or with `again` the anchor."""
        over = Integrals.over(start, end, self.eta)
        keep, anchor = (0.0, over.keep) if again else (over.keep, 0.0)
        span = (start.noise_fraction, end.noise_fraction)
        return Update(keep, (over.constant,), anchor, not again, over.noise, span)
