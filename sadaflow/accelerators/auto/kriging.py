"""Kriging of x0 along a trajectory: the best linear prediction between and beyond evaluations.

The velocity dx0/dlog_snr is modelled as an Ornstein-Uhlenbeck process, with the correlation exp(-d / memory) over a
distance d in log-SNR. The best linear predictor from known values, and its root-mean-square error, follow (Cressie,
Statistics for Spatial Data, section 3.2). With a long memory it is close to a natural cubic spline, with a short one
it is the last value.
"""

from dataclasses import dataclass

import numpy as np

from ..history import Array


@dataclass(frozen=True)
class Predictor:
    """Linear predictors of P values.

    Attributes:
        weights: Weights of the known values, 0 where there is none; they sum to 1. (..., P, n)
        spread: Root-mean-square errors of the predictions, for unit speed. (..., P)
    """

    weights: Array
    spread: Array


def predict(nodes: Array, at: Array, memory: Array | float) -> Predictor:
    """The best linear predictors of x0; leading dimensions are broadcast.

    Args:
        nodes: log-SNR of one or more known values, distinct, newest first, nan where there is none. (..., n)
        at: log-SNR of the values to predict. (..., P)
        memory: Correlation lengths of the velocity, in log-SNR. (...)
    """
    scale = np.asarray(memory)[..., None]
    newest = nodes[..., :1]
    unknown = np.isnan(nodes[..., 1:])
    # A missing node is treated as the newest one: its covariances, and so its weight, are zero.
    others = np.where(unknown, 0.0, nodes[..., 1:] - newest)
    ahead = at - newest
    moved = _variogram(ahead, scale)
    # Covariance of displacements from the newest node, with the variogram g:
    # cov(a, b) = g(a - newest) + g(b - newest) - g(a - b).
    steps = _variogram(others, scale)
    pairs = _variogram(others[..., :, None] - others[..., None, :], scale[..., None])
    covariance = steps[..., :, None] + steps[..., None, :] - pairs
    covariance = covariance + np.eye(others.shape[-1]) * unknown[..., None, :]
    apart = _variogram(others[..., :, None] - ahead[..., None, :], scale[..., None])
    shared = steps[..., :, None] + moved[..., None, :] - apart
    weights = np.linalg.solve(covariance, shared)
    left = 2 * moved - (weights * shared).sum(axis=-2)
    first = 1 - weights.sum(axis=-2, keepdims=True)
    return Predictor(np.concatenate((first, weights), axis=-2).swapaxes(-1, -2), np.sqrt(np.maximum(left, 0.0)))


def _variogram(distance: Array, memory: Array) -> Array:
    """Half the mean square displacement of a motion of unit speed over `distance` in log-SNR."""
    ratio = np.abs(distance) / memory
    half: Array = memory**2 * (ratio + np.expm1(-ratio))
    return half
