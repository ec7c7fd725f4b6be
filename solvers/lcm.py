"""Multistep consistency sampling, as latent consistency models do it."""

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
    """Jump to data, then draw all noise anew (Luo et al. 2023, arXiv 2310.04378, Algorithm 3).

    x' = alpha' F + sigma' z with F = c_out x0 + c_skip x and fresh noise z; a step that ends on clean data returns F.
    It needs a network that was distilled to predict the end of the trajectory: with the mean of x0 that other networks
    predict it does not converge, whatever the number of steps, which is what `order` 0 says.

    On a noise table F has the boundary conditions c_skip = d^2 / (u^2 + d^2) and c_out = u / sqrt(u^2 + d^2), with
    u = `timestep_scaling` times the timestep and d = `sigma_data`. On other schedules F = x0, as published for flow.

    Args:
        timestep_scaling: Factor of the timestep in the boundary conditions, above 0.
        sigma_data: Spread of the data in the boundary conditions, above 0.
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
        updates = []
        for node, (start, end) in zip(self.nodes, pairwise(self.grid.points), strict=True):
            skip, out = self.boundary(node)
            span = (start.noise_fraction, end.noise_fraction)
            updates.append(Update(end.alpha * skip, (end.alpha * out,), noise=end.sigma, span=span))
        return tuple(updates)

    def boundary(self, node: Node) -> tuple[float, float]:
        """(c_skip, c_out) at a node."""
        if not isinstance(self.grid.schedule, VPDiscrete):
            return 0.0, 1.0
        u, d = self.timestep_scaling * node.timestep, self.sigma_data
        total: float = u * u + d * d
        return d * d / total, u / total**0.5
