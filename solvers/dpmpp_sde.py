"""DPM-Solver++ SDE: two first-order stages of the reverse SDE per step (k-diffusion's dpmpp_sde)."""

import math
from dataclasses import dataclass
from functools import cached_property

from .coordinates import time_at_ratio
from .dpmpp import Integrals
from .grid import Node, Point, point_at
from .linear import NoisySolver, Update


@dataclass(frozen=True, eq=False)
class DPMppSDE(NoisySolver):
    """Evaluates at the midpoint in log-SNR and takes the whole step with the x0 found there.

        x_m = first-order step of the reverse SDE from x to lambda + h/2 with x0(x)
        x'  = first-order step of the reverse SDE from x to lambda + h   with x0(x_m)

    These are the steps of DPM-Solver++ 2S (midpoint) on a grid with every midpoint added. Both stages draw noise over
    spans that begin at the start of the step; with `BrownianNoise` the two are correlated as increments of one path. A
    step from alpha = 0 or to sigma = 0 has no midpoint and is first-order, so N steps to clean data take 2N - 1
    evaluations.

    Source: Lu et al. 2022, arXiv 2211.01095.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source, needed if eta > 0.
        eta: fraction of noise replaced: 1 is the reverse SDE as published (order 1), 0 the ODE (order 2).

    Raises:
        ValueError: if `eta` is negative or not finite.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta < math.inf:
            raise ValueError(f"DPMppSDE.eta must be 0 or more and finite, got {self.eta}")
        self._require_falling(self.eta > 0)

    @property
    def order(self) -> int:
        """1 for eta > 0, else 2."""
        return 1 if self.eta else 2

    @cached_property
    def _middles(self) -> tuple[Node | None, ...]:
        """The midpoint of every step; None where there is none."""
        return tuple(self._middle(index) for index in range(self.grid.n_steps))

    def _middle(self, index: int) -> Node | None:
        start, end = self.grid.points[index : index + 2]
        if start.pure_noise or end.pure_noise or end.sigma == 0:
            return None
        ratio = math.exp(-(start.log_snr + end.log_snr) / 2)
        return self.grid.node(point_at(self.grid.schedule, time_at_ratio(self.grid.schedule, ratio)))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The grid's nodes, each followed by the midpoint of its step."""
        pairs = zip(self.grid.nodes, self._middles, strict=True)
        return tuple(node for pair in pairs for node in pair if node is not None)

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        updates: list[Update] = []
        for index, middle in enumerate(self._middles):
            start, end = self.grid.points[index : index + 2]
            if middle is None:
                updates.append(self._update(start, end))
            else:
                updates += [self._update(start, middle), self._update(start, end, again=True)]
        return tuple(updates)

    def _update(self, start: Point, end: Point, *, again: bool = False) -> Update:
        """Returns the first-order step from `start`, where x is the state or, with `again`, the anchor."""
        integrals = Integrals.of_step(start, end, self.eta)
        keep, anchor = (0.0, integrals.keep) if again else (integrals.keep, 0.0)
        span = (start.noise_fraction, end.noise_fraction)
        return Update(keep, (integrals.constant,), anchor, not again, integrals.noise, span)
