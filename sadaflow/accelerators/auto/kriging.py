"""x0 along a trajectory as a motion that forgets its velocity, and the best guess of it between and beyond evaluations.

The velocity dx0/dlog_snr is taken for an Ornstein-Uhlenbeck process: random, with the correlation exp(-d / memory)
over a distance d in log-SNR. From known values the best linear guess of another, and what it errs by in the root mean
square, then follow (kriging; Cressie, Statistics for Spatial Data, section 3.2). With a long memory the guess is that
of a natural cubic spline, with a short one the last value.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Guess:
    """`weights` of the known values, and `spread`, the error of their sum in the root mean square for unit speed."""

    weights: tuple[float, ...]
    spread: float


@lru_cache(maxsize=2**14)
def guess(nodes: tuple[float, ...], at: float, memory: float) -> Guess:
    """The motion at log-SNR `at`, from its values at one or more distinct `nodes`; weights sum to 1."""
    newest, others = nodes[0], nodes[1:]
    moved = 2 * _variogram(at - newest, memory)
    if not others:
        return Guess((1.0,), math.sqrt(moved))
    # Of moves away from the newest node: cov(a, b) = g(a - newest) + g(b - newest) - g(a - b), g the variogram.
    steps = [_variogram(one - newest, memory) for one in others]
    covariance = [
        [first + second - _variogram(one - other, memory) for other, second in zip(others, steps, strict=True)]
        for one, first in zip(others, steps, strict=True)
    ]
    shared = [step + moved / 2 - _variogram(at - one, memory) for one, step in zip(others, steps, strict=True)]
    weights = np.linalg.solve(np.array(covariance), np.array(shared))
    left = moved - float(weights @ np.array(shared))
    return Guess((1 - float(weights.sum()), *weights.tolist()), math.sqrt(max(left, 0.0)))


def _variogram(distance: float, memory: float) -> float:
    """Half the mean square by which a motion of unit speed moves over `distance` in log-SNR."""
    ratio = abs(distance) / memory
    return memory**2 * (ratio + math.expm1(-ratio))
