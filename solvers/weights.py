"""Weights of polynomial interpolation, extrapolation and integration on arbitrary real nodes."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Nodes = Sequence[float] | NDArray[np.float64]
Weights = NDArray[np.float64]


def _checked(nodes: Nodes) -> Weights:
    values = np.asarray(nodes, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"polynomial weights need one or more finite nodes in one row, got {values.tolist()}")
    if np.unique(values).size != values.size:
        raise ValueError(f"polynomial weights need distinct nodes, got {values.tolist()}")
    return values


def lagrange_weights(nodes: Nodes, at: float) -> Weights:
    """w with p(at) = sum_j w_j f(nodes_j) for the polynomial p of degree n-1 through the n nodes.

    Raises ValueError where nodes coincide or are not finite.
    """
    points = _checked(nodes)
    weights = np.ones_like(points)
    for j, node in enumerate(points):
        others = np.delete(points, j)
        weights[j] = np.prod((at - others) / (node - others))
    return weights


def adams_weights(nodes: Nodes, start: float, end: float) -> Weights:
    """w with integral of p over [start, end] = sum_j w_j f(nodes_j), p as in `lagrange_weights`.

    Nodes up to `start` give Adams-Bashforth, nodes that include `end` Adams-Moulton (Hairer, Norsett & Wanner,
    Solving Ordinary Differential Equations I, section III.5).
    """
    points = _checked(nodes)
    # Gauss-Legendre with m points is exact up to degree 2m - 1.
    u, quadrature = np.polynomial.legendre.leggauss(points.size // 2 + 1)
    times = start + (end - start) * (u + 1) / 2
    basis = np.stack([lagrange_weights(points, time) for time in times])
    total: Weights = (end - start) / 2 * quadrature @ basis
    return total


def exponential_weights(nodes: Nodes, h: float) -> Weights:
    """w with integral of exp(s - h) p(s) over [0, h] = sum_j w_j f(nodes_j): the exact exponential-integrator weights.

    `nodes` are measured from the start of the step. h = inf gives p's limit for constant p only, so it needs one node.
    """
    points = _checked(nodes)
    if math.isinf(h):
        if points.size > 1:
            raise ValueError("an infinite step in log-SNR allows no polynomial but the constant: give one node")
        return np.ones(1)
    moments = _exponential_moments(points.size, h)
    # Solve for weights that integrate s^k exactly, in units of h for conditioning.
    powers = np.vander(points / h, points.size, increasing=True).T
    return np.asarray(np.linalg.solve(powers, moments), dtype=np.float64)


def _exponential_moments(n: int, h: float) -> Weights:
    """integral of exp(s - h) (s/h)^k over [0, h] for k = 0 .. n-1, by quadrature on pieces short enough to be exact."""
    pieces = max(1, math.ceil(h / 2))
    u, quadrature = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(0, h, pieces + 1)
    s = (edges[:-1, None] + np.diff(edges)[:, None] * (u + 1) / 2).ravel()
    w = (np.diff(edges)[:, None] / 2 * quadrature).ravel()
    return np.array([(w * np.exp(s - h) * (s / h) ** k).sum() for k in range(n)])
