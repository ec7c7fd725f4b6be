"""Linear predictors against numbers worked out by hand, and against polynomials and regressions."""

import math

import numpy as np
import pytest

from sadaflow.accelerators.predictors import (
    PREDICTORS,
    chebyshev,
    chebyshev_basis,
    hermite,
    hermite_polynomial,
    kriging,
    positions,
    taylor,
)
from sadaflow.checks.runs import solver_of

NAN = math.nan
# Full steps 0, 2 and 4 with values 1, 1.5 and 2.5, newest first.
TIMES, VALUES = np.array([4.0, 2.0, 0.0]), np.array([2.5, 1.5, 1.0])


def test_series_are_those_worked_out_by_hand() -> None:
    """D1 = (2.5 - 1.5) / 2 = 0.5, the one before 0.25, D2 = (0.5 - 0.25) / 2 = 0.125."""
    assert taylor(TIMES, 5.0) @ VALUES == pytest.approx(2.5 + 0.5 + 0.125 / 2)
    assert taylor(TIMES, 7.0, order=1) @ VALUES == pytest.approx(2.5 + 1.5)
    assert hermite(TIMES, 5.0, order=2, scale=0.5) @ VALUES == pytest.approx(2.734375)  # 2.5 + 0.25 - 0.125 / 16
    for ahead, first, second in [(1, 0.5, -0.125), (2, 1.0, 0.25), (3, 1.5, 0.875)]:
        expected = 2.5 + 0.5 * first + 0.125 * second
        assert hermite(TIMES, 4.0 + ahead, scale=0.5) @ VALUES == pytest.approx(expected)
    assert hermite(TIMES, 6.0) @ VALUES == pytest.approx(2.5 + 0.5 * 2 + 0.125 * (4 - 1) / 2)  # scale sqrt(1/2)


def test_series_divide_by_each_gap_and_start_with_what_is_known() -> None:
    uneven = np.array([7.0, 5.0, 1.0])
    first, before = (2.5 - 1.5) / 2, (1.5 - 1.0) / 4
    assert taylor(uneven, 8.0) @ VALUES == pytest.approx(2.5 + first + (first - before) / 2 / 2)
    for known in (1, 2):
        times = np.where(np.arange(3) < known, TIMES, NAN)
        weights = taylor(times, 5.0)
        assert weights[known:].tolist() == [0.0] * (3 - known)
        assert weights[:known] @ VALUES[:known] == pytest.approx(2.5 if known == 1 else 3.0)


def test_hermite_polynomials_and_chebyshev_basis_are_numpys() -> None:
    at = np.linspace(-1, 1, 7)
    for degree in range(5):
        expected = np.polynomial.hermite.hermval(at, [0] * degree + [1])
        np.testing.assert_allclose(hermite_polynomial(at, degree), expected, atol=1e-12)
        basis = chebyshev_basis(at, degree)
        assert basis.shape == (7, degree + 1)
        np.testing.assert_allclose(basis, np.polynomial.chebyshev.chebvander(at, degree), atol=1e-12)


@pytest.mark.parametrize("blend", [1.0, 0.3])
def test_chebyshev_is_the_ridge_regression(blend: float) -> None:
    rng = np.random.default_rng(0)
    times, values = np.array([0.1, -0.2, -0.5, -0.7, -0.8, -0.9, -1.0, NAN]), rng.normal(size=7)
    basis = np.polynomial.chebyshev.chebvander(times[:7], 3)
    stacked = np.concatenate((basis, math.sqrt(0.2) * np.eye(4)))
    coefficients = np.linalg.lstsq(stacked, np.concatenate((values, np.zeros(4))), rcond=None)[0]
    regression = np.polynomial.chebyshev.chebval(0.4, coefficients)
    line = values[0] + (values[0] - values[1]) / 0.3 * 0.3
    weights = chebyshev(times, 0.4, degree=3, ridge=0.2, blend=blend)
    assert weights[7] == 0
    assert weights[:7] @ values == pytest.approx(blend * regression + (1 - blend) * line)


def test_kriging_with_a_long_memory_continues_a_line_and_with_a_short_one_holds() -> None:
    times = np.array([1.0, 0.4, 0.0])
    line = 2 + 3 * times
    assert kriging(times, 1.3, memory=1e4) @ line == pytest.approx(2 + 3 * 1.3, abs=1e-3)
    assert kriging(times, 1.3, memory=1e-4) @ line == pytest.approx(5.0, abs=1e-2)


@pytest.mark.parametrize("name", PREDICTORS)
def test_all_sum_to_one_but_the_ridge_and_work_on_batches(name: str) -> None:
    rule = PREDICTORS[name]
    rows = np.stack([np.arange(rule.nodes)[::-1] * 0.1 - 0.9, np.arange(rule.nodes)[::-1] * 0.07 - 0.9])
    weights = rule.weights(rows, 0.05)
    assert weights.shape == rows.shape
    if name != "chebyshev":
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-9)
    for row, times in zip(weights, rows, strict=True):
        np.testing.assert_allclose(row, rule.weights(times, 0.05), atol=1e-12)
    inside = np.concatenate((rows[:, :1] + 0.1, rows), axis=1)
    np.testing.assert_allclose(rule.between(inside, rows[:, 0] + 0.05).sum(axis=1), 1.0, atol=1e-9)
    for row in range(2):
        exact = rule.between(inside[row], inside[row, 1])
        np.testing.assert_allclose(exact, np.eye(rule.nodes + 1)[1], atol=1e-6)


def test_positions_along_the_run() -> None:
    solver = solver_of("euler", 5)
    assert positions(solver, "step") == [0, 1, 2, 3, 4]
    assert positions(solver, "unit") == [-1, -0.5, 0, 0.5, 1]
    assert positions(solver, "log_snr") == [node.log_snr for node in solver.nodes]
