"""Data whose denoiser is known exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

HARDNESS: Final = (
    (0.3, 0.2, 1.0),  # nearly one wide mode: x0 moves from the start to the end
    (0.3, 2.0, 0.1),  # modes far apart: x0 commits early
    (1.0, 0.4, 0.1),  # modes close to each other: x0 commits late
    (0.6, 1.0, 0.5),  # modes that overlap
)
"""Scales of centre, half distance and deviation of the modes, for samples in turn."""


@dataclass(frozen=True)
class Modes:
    """Data with independent numbers, each from a mixture of two normal distributions.

    Attributes:
        centre: Centre between the two modes, (B, ...), float64.
        half: Half the distance of the modes, as `centre`.
        deviation: Standard deviation of each mode, as `centre`.
    """

    centre: Tensor
    half: Tensor
    deviation: Tensor

    @classmethod
    def drawn(cls, samples: int, shape: Sequence[int], seed: int = 0) -> "Modes":
        """Draws parameters of `samples` of `shape`; a sample does not depend on their number.

        The samples differ in how hard they are and when they commit to a mode, after `HARDNESS` in turn, so that
        methods that decide by the trajectory decide apart.
        """
        parts = []
        for row in range(samples):
            generator = torch.Generator().manual_seed(1000 * seed + row)
            draw = torch.rand(3, *shape, generator=generator, dtype=torch.float64)
            centre, half, deviation = HARDNESS[row % len(HARDNESS)]
            parts.append(torch.stack((centre * (2 * draw[0] - 1), half * (0.5 + draw[1]), deviation * (0.5 + draw[2]))))
        return cls(*torch.stack(parts, 1))

    def of(self, rows: Sequence[int]) -> "Modes":
        """The data of some samples."""
        index = list(rows)
        return Modes(self.centre[index], self.half[index], self.deviation[index])

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.centre, self.half, self.deviation


class Posterior(NamedTuple):
    """E[x0 | x = alpha x0 + sigma eps] of each number, for data with the given `Modes.parts`."""

    parts: Sequence[Tensor]
    alpha: float
    sigma: float

    @property
    def _variance(self) -> Tensor:
        return (self.alpha * self.parts[2]) ** 2 + self.sigma**2

    def sides(self, x: Tensor) -> Tensor:
        """Half the log-odds of the upper mode for each number of x; its tanh is the difference of the probabilities."""
        centre, half, _ = self.parts
        return self.alpha * half * (x - self.alpha * centre) / self._variance

    def mean(self, x: Tensor, likelier: Tensor) -> Tensor:
        """The mean for a difference `likelier` of the probabilities of the modes."""
        centre, half, deviation = self.parts
        near = self.alpha * deviation**2 * (x - self.alpha * centre)
        return centre + (near + likelier * half * self.sigma**2) / self._variance

    def __call__(self, x: Tensor) -> Tensor:
        return self.mean(x, torch.tanh(self.sides(x)))
