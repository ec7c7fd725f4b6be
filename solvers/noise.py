"""Noise sources of stochastic solvers: pure functions of the seed, so that a trajectory can be replayed and forked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class NoiseSource(Protocol):
    """Function that returns unit-normal noise."""

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        """Returns unit-normal noise with the shape, dtype and device of `like` (B, ...).

        Args:
            index: index of the evaluation that follows the noise.
            span: (start, end), the interval of s = sigma / (alpha + sigma) that the noise belongs to; s falls from 1
                (noise) to 0 (data).
            like: (B, ...).
        """
        ...


def _normal(key: Sequence[int], shape: torch.Size) -> Tensor:
    """Draws float64 noise on the CPU that depends on `key` alone."""
    state = int(np.random.SeedSequence([part & 0xFFFFFFFFFFFFFFFF for part in key]).generate_state(1, np.uint64)[0])
    generator = torch.Generator().manual_seed(state & 0x7FFFFFFFFFFFFFFF)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _check_batch(seeds: tuple[int, ...], like: Tensor) -> None:
    if len(seeds) != like.shape[0]:
        raise ValueError(f"a noise source needs one seed per sample, got {len(seeds)} seeds for {len(like)} samples")


@dataclass(frozen=True)
class SeededNoise:
    """Independent noise at every step.

    Attributes:
        seeds: (B,), one seed per sample, so that a sample's noise is the same in any batch.
    """

    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        """Returns unit-normal noise shaped as `like`; see `NoiseSource`."""
        _check_batch(self.seeds, like)
        return torch.stack([_normal((seed, index), like.shape[1:]) for seed in self.seeds]).to(like)


@dataclass(frozen=True)
class BrownianNoise:
    """Increments of one Brownian path per seed over s in [0, 1], the same path for any number of steps.

    Refining the grid refines the same noise, so runs of different lengths are comparable. The path is a Brownian bridge
    halved `depth` times (Levy's construction) and linear below that, so one increment takes 2 `depth` normal draws per
    sample.

    Attributes:
        seeds: (B,), one seed per sample.
        depth: number of halvings, 1 to 50.

    Raises:
        ValueError: if `depth` is out of range.
    """

    seeds: tuple[int, ...]
    depth: int = 24

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not 1 <= self.depth <= 50:
            raise ValueError(f"BrownianNoise.depth must lie between 1 and 50, got {self.depth}")

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        """Returns the path's normalised increment over `span`, shaped as `like`; see `NoiseSource`."""
        _check_batch(self.seeds, like)
        start, end = span
        if not 0 <= end < start <= 1:
            raise ValueError(f"a Brownian increment needs a span 1 >= start > end >= 0, got {span}")
        increments = [
            self.path(seed, start, like.shape[1:]) - self.path(seed, end, like.shape[1:]) for seed in self.seeds
        ]
        scale: float = (start - end) ** 0.5
        return (torch.stack(increments) / scale).to(like)

    def path(self, seed: int, s: float, shape: torch.Size) -> Tensor:
        """Returns W(s) of one seed, with W(0) = 0, in float64."""
        low, high = 0.0, 1.0
        at_low, at_high = torch.zeros(shape, dtype=torch.float64), _normal((seed, 0, 0), shape)
        position = 0
        for level in range(1, self.depth + 1):
            middle = (low + high) / 2
            spread = (high - low) ** 0.5 / 2
            at_middle = (at_low + at_high) / 2 + spread * _normal((seed, level, position), shape)
            if s < middle:
                high, at_high, position = middle, at_middle, 2 * position
            else:
                low, at_low, position = middle, at_middle, 2 * position + 1
        return at_low + (at_high - at_low) * ((s - low) / (high - low))
