"""Noise for stochastic solvers, as pure functions of the seed: a trajectory can be replayed and forked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class NoiseSource(Protocol):
    """Unit-normal noise shaped as `like` (B, ...), on its device and in its dtype.

    `index` is the number of the evaluation that the noise leads to. `span` = (start, end) is the interval of
    s = sigma / (alpha + sigma) that it belongs to, falling from 1 (noise) to 0 (data).
    """

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor: ...


def _normal(key: Sequence[int], shape: torch.Size) -> Tensor:
    """A float64 draw on the CPU that depends on `key` alone."""
    state = int(np.random.SeedSequence([part & 0xFFFFFFFFFFFFFFFF for part in key]).generate_state(1, np.uint64)[0])
    generator = torch.Generator().manual_seed(state & 0x7FFFFFFFFFFFFFFF)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _check_batch(seeds: tuple[int, ...], like: Tensor) -> None:
    if len(seeds) != like.shape[0]:
        raise ValueError(f"a noise source of {len(seeds)} seeds serves a batch of as many samples, got {like.shape[0]}")


@dataclass(frozen=True)
class SeededNoise:
    """Independent draws for every step; `seeds` has one seed a sample, so a sample's noise is the same in any batch."""

    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        _check_batch(self.seeds, like)
        return torch.stack([_normal((seed, index), like.shape[1:]) for seed in self.seeds]).to(like)


@dataclass(frozen=True)
class BrownianNoise:
    """Increments of one Brownian path per seed, over s in [0, 1]: the same path whatever the steps.

    Refining the grid refines the same noise, so runs of different lengths stay comparable. The path is a bridge halved
    `depth` times (Levy's construction) and straight below that, so a draw costs 2 `depth` normal draws a sample.
    """

    seeds: tuple[int, ...]
    depth: int = 24

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not 1 <= self.depth <= 50:
            raise ValueError(f"BrownianNoise.depth must lie between 1 and 50, got {self.depth}")

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
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
        """W(s), with W(0) = 0, in float64."""
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
