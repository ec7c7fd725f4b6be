"""Weights that extrapolate a state over the next step from past velocities: SADA's step-wise estimate and others.

x(end) is estimated as x(t_0) + dt (w_0 y_0 + w_1 y_1 + w_2 y_2), where dt = end - t_0 and y_k = dx/dt at t_k, newest
first. The weights sum to 1. Orders are those of consistency: the error of one step of length h is O(h^(order + 1)).
Only `nonuniform` uses the times; the others assume even steps, and are of first order on uneven ones.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from sadaflow.solvers import adams_weights

Weights = tuple[float, ...]
Estimator = Callable[[Sequence[float], float], Weights]
"""`estimator(times, end)` -> one weight for each of the three newest times."""


def paper(times: Sequence[float], end: float) -> Weights:
    """The third-order extrapolation of arXiv 2507.17135, Theorem 3.5. Order 2: its error is 13/12 dt^3 y''."""
    return (5 / 6, 5 / 6, -2 / 3)


def released(times: Sequence[float], end: float) -> Weights:
    """The weights of the authors' published code: y_0 minus 3/8 of the second difference.

    Order 1, as Euler's method: its error is 1/2 dt^2 y'.
    """
    return (5 / 8, 3 / 4, -3 / 8)


def ab2(times: Sequence[float], end: float) -> Weights:
    """Adams-Bashforth of two steps. Order 2: its error is 5/12 dt^3 y''."""
    return (3 / 2, -1 / 2, 0.0)


def ab3(times: Sequence[float], end: float) -> Weights:
    """Adams-Bashforth of three steps. Order 3: its error is 3/8 dt^4 y'''."""
    return (23 / 12, -16 / 12, 5 / 12)


def nonuniform(times: Sequence[float], end: float) -> Weights:
    """The integral of the parabola through the three velocities at any times; on even steps it is `ab3`.

    Order 3 (Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, section III.5).

    Raises:
        ValueError: if two times coincide.
    """
    dt = end - times[0]
    return tuple(float(weight) / dt for weight in adams_weights(times, times[0], end))


ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {estimator.__name__: estimator for estimator in (paper, released, ab2, ab3, nonuniform)}
)


def known_estimator(name: str) -> Estimator:
    """The estimator `name`. Raises ValueError, with the known names, if there is none."""
    if name not in ESTIMATORS:
        raise ValueError(f"unknown estimator {name!r}; known: {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]
