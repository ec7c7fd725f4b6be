"""DPM-Solver-2 in sigma space and its ancestral form (k-diffusion's dpm_2 and dpm_2_ancestral)."""

import math
from dataclasses import dataclass

from .coordinates import EDM_LIMIT, InFrame, node_at, time_at_ratio
from .euler import ancestral_split
from .grid import Node, Point, point_at
from .linear import NoisySolver, Update, scaled_with_noise
from .planned import Planned
from .runge_kutta import Tableau, stages


@dataclass(frozen=True, eq=False)
class KDPM2(Planned, InFrame, NoisySolver):
    """Midpoint method whose midpoint is the geometric mean of the step's ends in the frame's time u.

        z_m = z + (sqrt(u u') - u) f(z, u)
        z'  = z + (u' - u) f(z_m, sqrt(u u'))

    In the edm frame (see `coordinates.py`) u = sigma/alpha, and the midpoint is half way in log-SNR: DPM-Solver-2 as
    k-diffusion writes it. In the flow frame u is flow time. A step that ends at sigma = 0 is Euler's, so N steps to
    clean data take 2N - 1 evaluations.

    Source: Lu et al. 2022, arXiv 2206.00927; Karras et al. 2022, arXiv 2206.00364.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source, needed if eta > 0.
        eta: scale of the fresh noise, as in `EulerAncestral`: the deterministic step leads to the lower level of the
            split, and noise leads back up. 0 is the ODE (order 2), 1 the published ancestral form (order 1).
        frame: "edm" or "flow"; None selects flow for rectified flow and for grids that start near alpha = 0.

    Raises:
        ValueError: if `eta` is negative or not finite.
    """

    eta: float = 0.0
    frame: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.eta < math.inf:
            raise ValueError(f"KDPM2.eta must be 0 or more and finite, got {self.eta}")
        self._require_falling(self.eta > 0)

    @property
    def order(self) -> int:
        """1 for eta > 0, else 2."""
        return 1 if self.eta else 2

    def _step(self, index: int) -> tuple[list[Node], list[Update]]:
        """Returns the nodes and updates of the step from grid point `index` to the next."""
        start, end = self.grid.nodes[index], node_at(self.grid, index + 1)
        span = (start.noise_fraction, end.noise_fraction)
        up, down = ancestral_split(start, end, self.eta)
        if down == 0 or (up and start.sigma > EDM_LIMIT * start.alpha):
            # From pure noise the lower level is so low that a midpoint would be on the way to it: a first-order step.
            keep = down / start.sigma
            return [start], [Update(keep, (end.alpha - keep * start.alpha,), noise=up, span=span)]
        target = end if up == 0 else self._at_ratio(down / end.alpha)
        u, aim = self._frame.u(start), self._frame.u(target)
        middle = (math.sqrt(u * aim) - u) / (aim - u)
        tableau = Tableau(2, (0.0, middle), ((middle,), (0.0, 1.0)))
        nodes, updates = stages(self.grid, self._frame, tableau, start, target)
        if up:
            updates[-1] = scaled_with_noise(updates[-1], end.alpha / target.alpha, up, span)
        return nodes, updates

    def _at_ratio(self, ratio: float) -> Point:
        """Returns the schedule's point at which sigma/alpha equals `ratio`."""
        return point_at(self.grid.schedule, time_at_ratio(self.grid.schedule, ratio))
