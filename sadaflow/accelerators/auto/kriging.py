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
    count, newest, unknown = nodes.shape[-1], nodes[..., :1], np.isnan(nodes)
    # A missing node is treated as the newest one: its covariances, and so its weight, are zero.
    known = np.where(unknown, 0.0, nodes - newest)
    ahead = at - newest
    leading = np.broadcast_shapes(known.shape[:-1], ahead.shape[:-1])
    points = np.empty((*leading, count + ahead.shape[-1]))
    points[..., :count], points[..., count:] = known, ahead
    moves = _variogram(points[..., :count, None] - points[..., None, :], np.asarray(memory)[..., None, None])
    # Covariance of displacements from the newest node, with the variogram g:
    # cov(a, b) = g(a - newest) + g(b - newest) - g(a - b).
    shared = moves[..., 1:count, :1] + moves[..., :1, 1:] - moves[..., 1:, 1:]
    covariance, shared, moved = shared[..., : count - 1], shared[..., count - 1 :], moves[..., 0, count:]
    if unknown.any():
        covariance = covariance + np.eye(count - 1) * unknown[..., None, 1:]
    others = np.linalg.solve(covariance, shared)
    weights = np.empty((*others.shape[:-2], others.shape[-1], count))
    weights[..., 1:] = others.swapaxes(-1, -2)
    weights[..., 0] = 1 - others.sum(axis=-2)
    return Predictor(weights, np.sqrt(np.maximum(2 * moved - (others * shared).sum(axis=-2), 0.0)))


def _variogram(distance: Array, memory: Array) -> Array:
    """Half the mean square displacement of a motion of unit speed over `distance` in log-SNR."""
    ratio = np.abs(distance) / memory
    half: Array = memory**2 * (ratio + np.expm1(-ratio))
    return half
