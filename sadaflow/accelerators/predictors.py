"""Linear predictors: weights of past values, from their positions along the run, that predict a value further on.

A prediction is one weighted sum of the values that a `NodeBuffer` holds, whatever the rule. Every function here takes
the positions of the known values, newest first and nan where there is none, (..., n), and the position of the value to
predict, (...); it returns weights (..., n), 0 where there is no value.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from sadaflow.solvers import Solver

from .auto.kriging import predict
from .history import Array, lagrange

Weights = Callable[[Array, float | Array], Array]

MEMORY: Final = 0.3
"""Correlation length of `kriging`, in log-SNR: the best single one on the embedded checkpoints (docs/lab-notes.md)."""

_INTERPOLATED: Final = 4  # most nodes of a polynomial between evaluations


def kriging(times: Array, at: float | Array, memory: float = MEMORY) -> Array:
    """Weights of the best linear prediction of a motion whose velocity is forgotten over `memory` (see `auto.kriging`).

    Args:
        times: log-SNR of the known values, (..., n).
        at: log-SNR of the prediction, (...).
        memory: Correlation length of the velocity.
    """
    where = np.broadcast_to(np.asarray(at, dtype=np.float64), times.shape[:-1])
    return predict(times, where[..., None], memory).weights[..., 0, :]


def chebyshev_basis(at: float | Array, degree: int) -> Array:
    """Chebyshev polynomials T_0 to T_degree at positions (...) within -1 and 1: (..., degree + 1)."""
    where = np.asarray(at, dtype=np.float64)
    basis = [np.ones_like(where), where]
    while len(basis) <= degree:
        basis.append(2 * where * basis[-1] - basis[-2])
    return np.stack(basis[: degree + 1], axis=-1)


def chebyshev(times: Array, at: float | Array, degree: int = 4, ridge: float = 0.1, blend: float = 0.5) -> Array:
    """Weights of a ridge regression on Chebyshev polynomials, blended with the line through the last two values.

    Source: Spectrum (arXiv 2603.01623), whose defaults these are; `blend` 1 is the paper's.

    Args:
        times: Positions of the known values, the run being -1 to 1, (..., n).
        at: Position of the prediction, (...).
        degree: Highest polynomial.
        ridge: Weight of the squared coefficients.
        blend: Share of the regression; the rest is the line.
    """
    known = ~np.isnan(times)
    basis = np.where(known[..., None], chebyshev_basis(np.where(known, times, 0.0), degree), 0.0)
    gram = basis.swapaxes(-1, -2) @ basis + ridge * np.eye(degree + 1)
    ahead = np.broadcast_to(chebyshev_basis(at, degree), (*times.shape[:-1], degree + 1))
    weights: Array = blend * (basis @ np.linalg.solve(gram, ahead[..., None]))[..., 0]
    weights[..., :2] += (1 - blend) * lagrange(times[..., :2], at)
    return weights


def taylor(times: Array, at: float | Array, order: int = 2) -> Array:
    """Weights of a Taylor series of backward differences, as TaylorSeer's (arXiv 2503.06923).

    Every difference is divided by the distance of the newer of its two values from the one before it.
    """
    powers = [lambda ahead, k=k: ahead**k for k in range(order + 1)]
    return _series(times, at, powers)


def hermite(times: Array, at: float | Array, order: int = 2, scale: float = math.sqrt(0.5)) -> Array:
    """Weights of the series in which Hermite polynomials replace the powers, as HiCache's (arXiv 2508.16984).

    The power u^k becomes scale^k H_k(scale u) with the physicists' H_k. With the default scale the linear term is that
    of the Taylor series; the authors' 0.5 halves it.
    """
    polynomials = [lambda ahead, k=k: scale**k * hermite_polynomial(scale * ahead, k) for k in range(order + 1)]
    return _series(times, at, polynomials)


def hermite_polynomial(at: Array, degree: int) -> Array:
    """The physicists' Hermite polynomial of a degree: H_0 = 1, H_1 = 2 x, H_(n+1) = 2 x H_n - 2 n H_(n-1)."""
    before, value = np.zeros_like(at), np.ones_like(at)
    for n in range(degree):
        before, value = value, 2 * at * value - 2 * n * before
    return value


def _series(times: Array, at: float | Array, terms: Sequence[Callable[[Array], Array]]) -> Array:
    """Weights of the sum of terms[k](distance from the newest value) D_k / k!, D_k the k-th backward difference."""
    count = times.shape[-1]
    ahead = np.asarray(at, dtype=np.float64) - times[..., 0]
    gaps = np.full_like(times, np.nan)
    gaps[..., :-1] = times[..., :-1] - times[..., 1:]
    differences = np.broadcast_to(np.eye(count), (*times.shape, count))
    weights = np.zeros(times.shape)
    for k, term in enumerate(terms):
        newest = differences[..., 0, :]
        weights += (term(ahead) / math.factorial(k))[..., None] * np.where(np.isnan(newest), 0.0, newest)
        older = np.concatenate((differences[..., 1:, :], np.full_like(differences[..., :1, :], np.nan)), axis=-2)
        differences = (differences - older) / gaps[..., None]
    return weights


@dataclass(frozen=True)
class Predictor:
    """A rule that predicts skipped values from evaluated ones.

    Attributes:
        nodes: Number of values that it uses, at most.
        axis: What positions are: "log_snr", "step" (the index of the step), or "unit" (-1 at the first step, 1 at the
            last).
        weights: Weights of the newest `nodes` values.
        between: Weights for a value between two evaluations, from `nodes` + 1 values, the first of which follows it.
    """

    nodes: int
    axis: str
    weights: Weights
    between: Weights


def _polynomial(times: Array, at: float | Array) -> Array:
    """Weights of the polynomial through the newest values, at most four."""
    weights = np.zeros(times.shape)
    weights[..., :_INTERPOLATED] = lagrange(times[..., :_INTERPOLATED], at)
    return weights


PREDICTORS: Mapping[str, Predictor] = MappingProxyType(
    {
        "held": Predictor(1, "log_snr", lagrange, _polynomial),
        "linear": Predictor(2, "log_snr", lagrange, _polynomial),
        "quadratic": Predictor(3, "log_snr", lagrange, _polynomial),
        "cubic": Predictor(4, "log_snr", lagrange, _polynomial),
        "kriging": Predictor(3, "log_snr", kriging, kriging),
        "chebyshev": Predictor(8, "unit", chebyshev, _polynomial),
        "taylor": Predictor(3, "step", taylor, _polynomial),
        "hermite": Predictor(3, "step", hermite, _polynomial),
        "lagrange": Predictor(4, "step", lagrange, _polynomial),
    }
)
"""Predictors by name. "lagrange" is the polynomial of degree 3 in the step index, as SADA's and ZEUS's."""


def positions(solver: Solver, axis: str) -> list[float]:
    """Position of every evaluation of a solver along an axis, (N,)."""
    if axis == "log_snr":
        return [node.log_snr for node in solver.nodes]
    if axis == "step":
        return [float(step) for step in range(solver.n_evals)]
    return [2 * step / max(1, solver.n_evals - 1) - 1 for step in range(solver.n_evals)]
