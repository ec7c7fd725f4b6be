"""Kriging of x0 along a trajectory: the best linear prediction between and beyond evaluations.

The velocity dx0/dlog_snr is modelled as an Ornstein-Uhlenbeck process, with the correlation exp(-d / memory) over a
distance d in log-SNR. The best linear predictor from known values, and its root-mean-square error, follow (Cressie,
Statistics for Spatial Data, section 3.2). With a long memory it is close to a natural cubic spline, with a short one
it is the last value.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Predictor:
    """A linear predictor.

    Attributes:
        weights: Weights of the known values; they sum to 1.
        spread: Root-mean-square error of the prediction, for unit speed.
    """

    weights: tuple[float, ...]
    spread: float


@lru_cache(maxsize=2**14)
def predict(nodes: tuple[float, ...], at: float, memory: float) -> Predictor:
    """The best linear predictor of x0.

    Args:
        nodes: log-SNR of one or more known values, distinct, newest first.
        at: log-SNR of the value to predict.
        memory: Correlation length of the velocity, in log-SNR.
    """
    newest, others = nodes[0], nodes[1:]
    moved = 2 * _variogram(at - newest, memory)
    if not others:
        return Predictor((1.0,), math.sqrt(moved))
    # Covariance of displacements from the newest node, with the variogram g:
    # cov(a, b) = g(a - newest) + g(b - newest) - g(a - b).
    steps = [_variogram(node - newest, memory) for node in others]
    covariance = [
        [first + second - _variogram(node - other, memory) for other, second in zip(others, steps, strict=True)]
        for node, first in zip(others, steps, strict=True)
    ]
    shared = [step + moved / 2 - _variogram(at - node, memory) for node, step in zip(others, steps, strict=True)]
    weights = np.linalg.solve(np.array(covariance), np.array(shared))
    left = moved - float(weights @ np.array(shared))
    return Predictor((1 - float(weights.sum()), *weights.tolist()), math.sqrt(max(left, 0.0)))


def _variogram(distance: float, memory: float) -> float:
    """Half the mean square displacement of a motion of unit speed over `distance` in log-SNR."""
    ratio = abs(distance) / memory
    return memory**2 * (ratio + math.expm1(-ratio))
