"""Adaptive projected guidance."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..device.indexing import put, taken
from .base import Branches, inner_product
from .cfg import Scaled
from .scale import scale_at


class Momentum:
    """A running sum of differences for each sample: the new one plus `rate` times the sum so far.

    Args:
        samples: Number of samples in the batch, B.
        rate: The rate.
    """

    def __init__(self, samples: int, rate: float) -> None:
        self.samples, self.rate = samples, rate
        self._sums: Tensor | None = None

    def added(self, rows: Sequence[int], difference: Tensor) -> Tensor:
        """Adds the differences (R, ...) of the samples `rows` and returns their sums, (R, ...)."""
        if self._sums is None:
            self._sums = difference.new_zeros((self.samples, *difference.shape[1:]))
        total = difference + self.rate * taken(self._sums, rows)
        put(self._sums, rows, total.detach())
        return total


@dataclass(frozen=True)
class APG(Scaled):
    """Adaptive projected guidance, on x0: the part of the guidance that is parallel to the conditional x0 is damped.

    With d the difference of conditional and negative x0, plus `momentum` times that of the evaluations before, cut to
    length `threshold` and split into d_par, parallel to the conditional x0, and d_ort:

        x0 = conditional + (scale - 1) (d_ort + eta d_par).

    Source: Sadat et al. 2024, arXiv 2410.02416, Algorithm 1.

    Attributes:
        eta: Weight of the parallel part; 1 keeps it.
        threshold: Largest length of the difference of a sample, in units of x0; 0 has no limit. The paper uses 15 for
            the latents of Stable Diffusion XL and 2.5 for those of DiT at 256 pixels.
        momentum: Weight of earlier differences; the paper's is negative, which leads away from past directions. Only
            steps at which the network is evaluated count.
    """

    eta: float = 0.0
    threshold: float = 15.0
    momentum: float = -0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not abs(self.momentum) < 1:
            raise ValueError(f"APG.momentum must lie between -1 and 1, got {self.momentum}")
        if not self.threshold >= 0:
            raise ValueError(f"APG.threshold must be at least 0 (which has no limit), got {self.threshold}")

    @property
    def pointwise(self) -> bool:
        return super().pointwise and self.momentum == 0

    def begin(self, samples: int) -> Momentum | None:
        return Momentum(samples, self.momentum) if self.momentum else None

    def guided(self, branches: Branches, memory: Momentum | None) -> Tensor:
        conditional = branches.x0(branches.conditional)
        difference = conditional - branches.x0(branches.negative)
        if memory is not None:
            difference = memory.added(branches.rows, difference)
        if self.threshold:
            length = inner_product(difference, difference).sqrt()
            difference = difference * (self.threshold / length).clamp(max=1)
        norm = inner_product(conditional, conditional).clamp(min=torch.finfo(conditional.dtype).tiny)
        parallel = inner_product(difference, conditional) / norm * conditional
        update = difference - (1 - self.eta) * parallel
        return branches.output(conditional + (scale_at(self.scale, branches) - 1) * update)
