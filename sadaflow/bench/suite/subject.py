"""What a bench asks of a model under test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sadaflow.solvers import Grid, Solver

from ...accelerators import Accelerator
from ...sampling.results import Stats


@dataclass(frozen=True)
class Made:
    """A batch of samples.

    Attributes:
        latents: (B, ...).
        images: Pictures (B, 3, H, W) in [0, 1], videos (B, frames, 3, H, W) in [0, 1], or of sounds spectrograms
            (B, 1, frames, mels). None for analytic problems.
        stats: Cost and modes.
    """

    latents: Tensor
    images: Tensor | None
    stats: Stats


class Subject(Protocol):
    """A model under test."""

    @property
    def fingerprint(self) -> str:
        """Digest that distinguishes different weights with the same name."""
        ...

    @property
    def shape(self) -> torch.Size:
        """Shape of the latents of one sample, (1, ...)."""
        ...

    @property
    def network(self) -> object:
        """The network, for accelerators that act inside it; None if there is none."""
        ...

    @property
    def calibrations(self) -> Sequence[Any]:
        """What was measured of the network, for accelerators."""
        ...

    def solver(self, name: str, steps: int, grid: Grid | None = None) -> Solver:
        """Builds a solver on the model's schedule; on `grid` if it is given."""
        ...

    def run(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float | None,
        solver: Solver,
        accelerator: Accelerator | None,
    ) -> Made:
        """Generates one sample for each prompt and seed."""
        ...
