"""Polynomial weights on arbitrary nodes, against scipy and the classical constants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.interpolate import BarycentricInterpolator

from sadaflow.solvers.polynomials import adams_weights, exponential_weights, lagrange_weights

profile = settings(derandomize=True, deadline=None, max_examples=40)
nodes_of = st.lists(st.integers(-40, 40), min_size=1, max_size=5, unique=True).map(lambda row: [n / 10 for n in row])


@profile
@given(nodes=nodes_of, at=st.floats(-6, 6))
def test_lagrange_is_scipys_interpolation(nodes: list[float], at: float) -> None:
    values = np.cos(np.array(nodes) * 1.3)
    expected = float(BarycentricInterpolator(nodes, values)(at))
    assert lagrange_weights(nodes, at) @ values == pytest.approx(expected, rel=1e-7, abs=1e-7)


@profile
@given(nodes=nodes_of, start=st.floats(-3, 3), length=st.floats(0.1, 3))
def test_adams_is_the_integral_of_the_interpolant(nodes: list[float], start: float, length: float) -> None:
    values = np.cos(np.array(nodes) * 1.3)
    interpolant = BarycentricInterpolator(nodes, values)
    expected = quad(lambda s: float(interpolant(s)), start, start + length, epsabs=1e-11, epsrel=1e-11)[0]
    assert adams_weights(nodes, start, start + length) @ values == pytest.approx(expected, rel=1e-6, abs=1e-6)


@profile
@given(nodes=nodes_of, h=st.floats(0.01, 8))
def test_exponential_weights_integrate_the_interpolant(nodes: list[float], h: float) -> None:
    values = np.cos(np.array(nodes) * 1.3)
    interpolant = BarycentricInterpolator(nodes, values)
    expected = quad(lambda s: float(np.exp(s - h) * interpolant(s)), 0, h, epsabs=1e-11, epsrel=1e-11)[0]
    assert exponential_weights(nodes, h) @ values == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([0], [1]),
        ([0, -1], [3 / 2, -1 / 2]),
        ([0, -1, -2], [23 / 12, -16 / 12, 5 / 12]),
        ([0, -1, -2, -3], [55 / 24, -59 / 24, 37 / 24, -9 / 24]),
        ([1, 0], [1 / 2, 1 / 2]),
        ([1, 0, -1], [5 / 12, 8 / 12, -1 / 12]),
        ([1, 0, -1, -2], [9 / 24, 19 / 24, -5 / 24, 1 / 24]),
    ],
)
def test_adams_on_even_nodes_has_the_classical_constants(nodes: list[float], expected: list[float]) -> None:
    assert adams_weights(nodes, 0, 1) == pytest.approx(expected, abs=1e-14)


def test_small_steps() -> None:
    assert exponential_weights([0, -1e-6], 1e-6).sum() == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.parametrize("nodes", [[], [1.0, 1.0], [0.0, float("nan")], [float("-inf"), 0.0]])
def test_nodes_refused(nodes: list[float]) -> None:
    with pytest.raises(ValueError, match="nodes"):
        lagrange_weights(nodes, 0.5)
