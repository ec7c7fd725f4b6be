"""Multistep consistency sampling of latent consistency models."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from .clipped import ClippedSolver
from .grid import Node
from .linear import Update
from .vp_discrete import VPDiscrete


@dataclass(frozen=True, eq=False)
class LCM(ClippedSolver):
    """Jump to data, then fresh noise at the next level.

        x' = alpha' F + sigma' z,    F = c_out x0 + c_skip x
        c_skip = d^2 / (u^2 + d^2),  c_out = u / sqrt(u^2 + d^2)

    u is `timestep_scaling` times the timestep, d is `sigma_data`. A step that ends on clean data returns F. On
    schedules other than a noise table F = x0, as published for flow.

    The network must be distilled to predict the end of the trajectory. With the mean of x0 that other networks predict,
    samples do not converge for any number of steps; `order` is therefore 0.

    Source: Luo et al. 2023, arXiv 2310.04378, Algorithm 3.

    Attributes:
        grid: the points that the trajectory visits.
        noise: the noise source.
        clip: largest |x0|; None disables clipping.
        timestep_scaling: factor of the timestep in the boundary conditions, above 0.
        sigma_data: standard deviation of the data in the boundary conditions, above 0.

    Raises:
        ValueError: if `timestep_scaling`, `sigma_data` or `clip` is not positive.
    """

    timestep_scaling: float = 10.0
    sigma_data: float = 0.5
    order: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.timestep_scaling > 0 or not self.sigma_data > 0:
            raise ValueError(
                f"LCM needs timestep_scaling and sigma_data above 0, got {self.timestep_scaling} and {self.sigma_data}"
            )

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        updates = []
        for node, (start, end) in zip(self.nodes, pairwise(self.grid.points), strict=True):
            skip, out = self.boundary(node)
            span = (start.noise_fraction, end.noise_fraction)
            updates.append(Update(end.alpha * skip, (end.alpha * out,), noise=end.sigma, span=span))
        return tuple(updates)

    def boundary(self, node: Node) -> tuple[float, float]:
        """Returns (c_skip, c_out) at a node."""
        if not isinstance(self.grid.schedule, VPDiscrete):
            return 0.0, 1.0
        u, d = self.timestep_scaling * node.timestep, self.sigma_data
        total: float = u * u + d * d
        return d * d / total, u / total**0.5
