"""Weights of polynomial interpolation, extrapolation and integration on arbitrary nodes."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Nodes = Sequence[float] | NDArray[np.float64]
Weights = NDArray[np.float64]

_GAUSS: Final = np.polynomial.legendre.leggauss(16)


def _checked(nodes: Nodes) -> Weights:
    """Returns the nodes as an array; raises ValueError unless they are finite and distinct."""
    values = np.asarray(nodes, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"polynomial weights need a non-empty list of finite nodes, got {values.tolist()}")
    if np.unique(values).size != values.size:
        raise ValueError(f"polynomial weights need distinct nodes, got {values.tolist()}")
    return values


def lagrange_weights(nodes: Nodes, at: float) -> Weights:
    """Computes w with p(at) = sum_j w_j f(nodes_j), for the polynomial p of degree n-1 through n nodes.

    Args:
        nodes: (n,), distinct.
        at: where p is evaluated.

    Returns:
        Weights (n,).

    Raises:
        ValueError: if nodes coincide or are not finite.
    """
    weights: Weights = lagrange_basis(nodes, np.array([at]))[0]
    return weights


def lagrange_basis(nodes: Nodes, at: Weights) -> Weights:
    """Computes `lagrange_weights` at many points: (m,) to (m, n)."""
    points = _checked(nodes)
    basis = np.ones((len(at), points.size))
    for j, node in enumerate(points):
        for other in np.delete(points, j):
            basis[:, j] *= (at - other) / (node - other)
    return basis


def adams_weights(nodes: Nodes, start: float, end: float) -> Weights:
    """Computes w with integral of p over [start, end] = sum_j w_j f(nodes_j), p as in `lagrange_weights`.

    Nodes up to `start` give Adams-Bashforth, nodes that include `end` give Adams-Moulton.

    Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, section III.5.
    """
    points = _checked(nodes)
    # Gauss-Legendre with m points is exact up to degree 2m - 1.
    u, quadrature = np.polynomial.legendre.leggauss(points.size // 2 + 1)
    times = start + (end - start) * (u + 1) / 2
    total: Weights = (end - start) / 2 * quadrature @ lagrange_basis(points, times)
    return total


def exponential_weights(nodes: Nodes, h: float, rate: float = 1.0) -> Weights:
    """Computes w with integral of exp(rate (s - h)) p(s) over [0, h] = sum_j w_j f(nodes_j): exponential Adams weights.

    Source: Hochbruck & Ostermann 2010, Exponential integrators, section 2.5.

    Args:
        nodes: (n,), measured from the start of the step.
        h: length of the step.
        rate: exponent per unit of s.

    Returns:
        Weights (n,).
    """
    _checked(nodes)

    def basis(s: Weights) -> Weights:
        return lagrange_basis(nodes, s) * np.exp(rate * (s - h))[:, None]

    return integrate(basis, 0.0, h)


def phi(order: int, h: float) -> float:
    """Computes phi_k(-h) = h^-k int_0^h e^(s-h) s^(k-1) / (k-1)! ds of exponential integrators, for k = `order`.

    phi_1(-h) = (1 - e^-h) / h and phi_{k+1}(-h) = (1/k! - phi_k(-h)) / h.

    Source: Hochbruck & Ostermann 2010, Exponential integrators, section 2.
    """
    scale = math.factorial(order - 1)

    def integrand(s: Weights) -> Weights:
        values: Weights = (np.exp(s - h) * (s / h) ** (order - 1) / scale)[:, None]
        return values

    return float(integrate(integrand, 0.0, h)[0]) / h


def integrate(function: Callable[[Weights], Weights], start: float, end: float) -> Weights:
    """Integrates a smooth vector function over [start, end] by Gauss-Legendre on pieces no longer than 1.

    Exact to rounding for the exponentials times low-degree polynomials that solvers need.

    Args:
        function: maps points (m,) to values (m, n).
        start: lower limit.
        end: upper limit.

    Returns:
        The integral (n,).
    """
    pieces = max(1, math.ceil(abs(end - start)))
    edges = np.linspace(start, end, pieces + 1)
    half = np.diff(edges)[:, None] / 2
    points = (edges[:-1, None] + half * (_GAUSS[0] + 1)).ravel()
    return np.asarray((half * _GAUSS[1]).ravel() @ function(points), dtype=np.float64)
