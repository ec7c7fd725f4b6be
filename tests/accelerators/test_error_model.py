"""The predicted errors of gaps, for many samples at once, against sums over their skipped steps one by one."""

import numpy as np
import pytest

from sadaflow.accelerators.auto.error_model import Gaps, Situation, gains, longest_within
from sadaflow.accelerators.auto.kriging import predict
from support.gaussians import solver_of

STEPS, COUNT, MOST = 20, 3, 5


def situation() -> Situation:
    """Five samples after the evaluations of different steps; the last one has not been predicted yet."""
    log_snr = np.array([node.log_snr for node in solver_of(STEPS).nodes])
    evaluated = [(6, 5, 3, 1), (6, 4, 1, 0), (9, 4, 3, 2), (16, 12, 11, 10), (1, 0)]
    nodes = np.full((5, COUNT + 1), np.nan)
    for row, steps in enumerate(evaluated):
        nodes[row, : len(steps)] = log_snr[list(steps)]
    steps = np.array([steps[0] for steps in evaluated])
    before, memory = np.array([0, 1, 4, 3, 0]), np.array([0.15, 0.3, 10.0, 0.6, 0.3])
    return Situation(steps, nodes, before, memory, np.array([0.5, 1.0, 2.0, 1.0, np.inf]))


def spread(nodes: list[float], at: float, memory: float) -> float:
    return float(predict(np.array(nodes), np.array([at]), memory).spread[0])


def test_the_error_of_a_gap_is_the_sum_over_its_steps() -> None:
    gaps, now = Gaps.of(solver_of(STEPS), MOST, COUNT), situation()
    errors = gaps.errors(now, gaps.ahead(now))
    assert np.isfinite(errors).sum(axis=1).tolist() == [1, 2, 5, 1, 0]  # the longest gaps that are allowed
    assert np.isinf(errors[4, 0]) and np.isnan(errors[4, 1:]).all()
    for row in range(4):
        step, known = now.steps[row], now.nodes[row].tolist()
        for skips in range(1, int(np.isfinite(errors[row]).sum()) + 1):
            before = after = total = 0.0
            inside = [gaps.log_snr[step + skips + 1], *known][:COUNT]
            for k in range(step + 1, step + skips + 1):
                total += gaps.gains[k]
                before += gaps.gains[k] * spread(known[:COUNT], gaps.log_snr[k], now.memory[row])
                after += gaps.gains[k] * spread(inside, gaps.log_snr[k], now.memory[row])
            assert errors[row, skips - 1] == pytest.approx(now.speed[row] * (after + before * total))


def test_a_gap_ends_before_the_first_error_beyond_the_tolerance() -> None:
    errors = np.array([[1.0, 2.0, 3.0], [1.0, 9.0, 1.0], [np.inf, np.nan, np.nan], [1.0, 1.0, np.nan]])
    assert longest_within(errors, np.array([2.0, 5.0, 1e9, 5.0])).tolist() == [2, 1, 0, 2]


def test_measured_gains_take_the_place_of_the_formula() -> None:
    solver = solver_of(STEPS)
    measured = [0.5 + 0.1 * step for step in range(STEPS)]
    assert Gaps.of(solver, MOST, COUNT, gains=measured).gains.tolist() == measured
    ratios = [node.sigma / node.alpha for node in solver.nodes]
    assert Gaps.of(solver, MOST, COUNT).gains.tolist() == gains(ratios)
    with pytest.raises(ValueError, match="19 gains were given for 20 steps"):
        Gaps.of(solver, MOST, COUNT, gains=measured[1:])
