"""Rescaled guidance."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .base import Branches, Wrapper


@dataclass(frozen=True)
class Rescale(Wrapper):
    """Scales the guided prediction p to the standard deviation of the conditional one, c, and mixes both.

        prediction = phi p std(c) / std(p) + (1 - phi) p

    Standard deviations are over all elements of a sample of the network's own output.

    Source: Lin et al. 2023, arXiv 2305.08891, equations 14 to 16.

    Attributes:
        phi: Weight of the scaled prediction, from 0 to 1; the paper uses 0.7.
    """

    phi: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.phi <= 1:
            raise ValueError(f"Rescale.phi must lie between 0 and 1, got {self.phi!r}")

    def guided(self, branches: Branches, memory: Any) -> Tensor:
        led = super().guided(branches, memory)
        elements = tuple(range(1, led.dim()))
        ratio = branches.conditional.std(dim=elements, keepdim=True) / led.std(dim=elements, keepdim=True)
        return self.phi * (led * ratio) + (1 - self.phi) * led
