"""Learns from each evaluation how x0 of every sample moves along log-SNR."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..history import Array


class Motions:
    """How fast x0 of each sample moves, for several correlation lengths of its velocity, and which of them fits best.

    Args:
        memories: The correlation lengths, M of them, in log-SNR.
        inertia: Weight of the past in the running averages, from 0 to below 1.
        samples: Number of samples, B.

    Attributes:
        memory: The correlation length that has predicted each sample best, the first one until it is known, (B,).
        speed: Root mean square of each sample's velocity for that length; infinite until it is known, (B,).
    """

    def __init__(self, memories: Sequence[float], inertia: float, samples: int) -> None:
        self.memories: Array = np.array(memories, dtype=np.float64)
        self.inertia = inertia
        self.memory: Array = np.full(samples, self.memories[0])
        self.speed: Array = np.full(samples, np.inf)
        self._misses: Array = np.full((samples, len(memories)), np.nan)
        self._speeds: Array = np.full((samples, len(memories)), np.nan)

    def learn(self, rows: NDArray[np.int64], errors: Array, spreads: Array) -> None:
        """Averages the errors of each memory, and the speeds of x0 that they imply, geometrically with the past.

        A speed above the average replaces it at once.

        Args:
            rows: Indices of the samples that were evaluated, (R,).
            errors: Root-mean-square errors of their predicted x0 with each memory, (R, M).
            spreads: Errors of these predictions expected for unit speed, (R, M).
        """
        errors = np.maximum(errors, 1e-12)
        speeds = errors / spreads
        self._speeds[rows] = np.maximum(speeds, self._averaged(speeds, self._speeds[rows]))
        self._misses[rows] = self._averaged(errors, self._misses[rows])

    def choose(self, rows: NDArray[np.int64]) -> None:
        """Chooses the memory of the samples `rows` that have been predicted."""
        known = rows[np.isfinite(self._misses[rows, 0])]
        best = self._misses[known].argmin(axis=1)
        self.memory[known], self.speed[known] = self.memories[best], self._speeds[known, best]

    def _averaged(self, new: Array, past: Array) -> Array:
        past = np.where(np.isnan(past), new, past)
        averaged: Array = new ** (1 - self.inertia) * past**self.inertia
        return averaged
