"""The two transformers of Wan 2.2 A14B, of which the time chooses one."""

from typing import Any, ClassVar

from torch import Tensor, nn

from .config import WanConfig
from .network import WanTransformer


class WanStages(nn.Module):
    """A transformer for the noisy part of the grid and another for the rest, of the same architecture.

    Args:
        high: the transformer for times of at least `boundary`.
        low: the transformer for earlier times, with less noise.
        boundary: timestep, from 0 to 1000.
    """

    sites: ClassVar[frozenset[str]] = WanTransformer.sites
    """Kinds of sites in these networks."""

    def __init__(self, high: WanTransformer, low: WanTransformer, boundary: float) -> None:
        super().__init__()
        self.high, self.low, self.boundary = high, low, boundary

    @property
    def config(self) -> WanConfig:
        """The architecture."""
        return self.high.config

    def stage(self, timestep: float) -> WanTransformer:
        """Returns the transformer that is evaluated at a timestep."""
        return self.high if timestep >= self.boundary else self.low

    def forward(self, x: Tensor, timestep: float, **arguments: Any) -> Tensor:
        """Computes the prediction; arguments as in `WanTransformer.forward`."""
        return self.stage(timestep)(x, timestep, **arguments)
