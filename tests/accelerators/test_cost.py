"""Prescribed costs of `Auto`: forecasts, budgets, caps, calibrations and what they refuse."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sadaflow import Auto, Uniform, sample
from sadaflow.accelerators.auto.budget import Forecast
from sadaflow.accelerators.auto.calibration import Calibration, describe_solver, near
from sadaflow.accelerators.auto.cost import TYPICAL_MEMORY, keeping_to, typical_tolerance
from sadaflow.accelerators.auto.error_model import MEASURED, Gaps, Situation, gains
from sadaflow.solvers import DPMpp, Grid, RectifiedFlow, Solver, make_solver
from support.gaussians import problem, solver_of

STEPS, MOST = 20, 5


def calibration(solver: Solver, **changed: Any) -> Calibration:
    """A calibration whose gains are the formula's."""
    made = Calibration(
        weights="w",
        solver=describe_solver(solver),
        log_snr=tuple(node.log_snr for node in solver.nodes),
        guidance=1.0,
        gains=tuple(gain / MEASURED for gain in gains([node.sigma / node.alpha for node in solver.nodes])),
        settings=Auto().shape_settings(),
        tolerances=(1e-3, 1e-2, 1e-1),
        evaluations=(18.0, 14.0, 10.0),
        course=tuple((step + 1) / solver.n_evals for step in range(solver.n_evals)),
        samples=16,
    )
    return replace(made, **changed)


def test_a_forecast_counts_one_evaluation_for_each_gap_and_its_end() -> None:
    gaps = Gaps.of(solver_of(STEPS), MOST, 3)
    forecast = Forecast.of(gaps, (0.3, 10.0))
    step, memory, ratio = np.array([4, 4, 9]), np.array([0.3, 10.0, 0.3]), np.ones(3)
    assert forecast.evaluations(step, memory, ratio, np.zeros(3)).tolist() == [15, 15, 10]
    # 15 steps follow step 4; the last two are evaluated, of the others one in MOST + 1
    most = forecast.evaluations(step, memory, ratio, np.full(3, 1e9))
    assert most == pytest.approx([2 + 13 / (MOST + 1), 2 + 13 / (MOST + 1), 2 + 8 / (MOST + 1)])


def test_an_error_that_equals_the_tolerance_is_allowed() -> None:
    errors = np.array([[[0.5, 1.0, 2.0]] * 4])  # after each of 4 steps, of gaps of 1, 2 and 3 skips
    forecast = Forecast(np.array([0.3]), errors)
    found = forecast.evaluations(np.zeros(2, dtype=int), np.full(2, 0.3), np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    assert found == pytest.approx([3 / 3, 3 / 4])


def test_the_errors_of_a_forecast_are_those_of_evaluations_at_equal_distances() -> None:
    gaps = Gaps.of(solver_of(STEPS), MOST, 3)
    forecast = Forecast.of(gaps, (0.3,))
    for step, length in ((6, 2), (9, 2), (8, 1), (7, 1)):  # with the first step among the evaluations, and without
        past = [at for at in range(step, -1, -length - 1)][:4]
        nodes = np.full((1, 4), np.nan)
        nodes[0, : len(past)] = gaps.log_snr[past]
        now = Situation(np.array([step]), nodes, np.array([MOST]), np.array([0.3]), gaps.pace[[step]])
        errors = np.maximum.accumulate(
            [forecast.errors[0, step, skips] for skips in range(length - 1)]
            + [gaps.errors(now, gaps.ahead(now))[0, length - 1]]
        )
        assert forecast.errors[0, step, length - 1] == pytest.approx(errors[-1])


@pytest.mark.parametrize("start", [0.999, 1.0])
@pytest.mark.parametrize(("steps", "settings"), [(50, {}), (28, {}), (20, {"warm_up": 4}), (12, {"max_skips": 1})])
def test_the_fewest_evaluations_are_those_of_a_run_without_limit(
    start: float, steps: int, settings: dict[str, int]
) -> None:
    times = torch.linspace(start, 0.0, steps + 1, dtype=torch.float64)
    solver = make_solver("euler", Grid.from_t(RectifiedFlow(), times))
    free = Auto(tolerance=1e12, **settings)
    _, denoise, noise = problem(steps)
    denoise.nodes = solver.nodes
    assert set(sample(solver, denoise, noise, free).stats.nfe) == {free.fewest_evaluations(solver)}


def test_a_typical_tolerance_is_the_lowest_that_leaves_enough_after_the_warm_up() -> None:
    gaps = Gaps.of(solver_of(STEPS), MOST, 3)
    forecast = Forecast.of(gaps, (TYPICAL_MEMORY,))
    found = typical_tolerance(gaps, forecast, 4, 12.0)
    after = {
        factor: forecast.evaluations(
            np.array([3]), np.array([TYPICAL_MEMORY]), np.array([0.7]), np.array([factor * found])
        )
        for factor in (0.999, 1.001)
    }
    assert after[1.001] <= 12 - 4 < after[0.999]


@settings(deadline=None, max_examples=30)
@given(st.floats(0.05, 20), st.integers(2, 15), st.floats(0.3, 1.0), st.sampled_from((0.3, 10.0)))
def test_the_tolerance_found_costs_what_is_left_and_hardly_a_lower_one_does(
    ratio: float, step: int, part: float, memory: float
) -> None:
    forecast = Forecast.of(Gaps.of(solver_of(STEPS), MOST, 3), (0.3, 10.0))
    motion = (np.array([step]), np.array([memory]), np.array([ratio]))
    left = np.array([2 + part * (STEPS - step - 1)])
    found = forecast.tolerances(*motion, left)
    assert forecast.evaluations(*motion, found)[0] <= max(left[0], 2 + (STEPS - step - 3) / (MOST + 1))
    if found[0] > 1e-8:
        assert forecast.evaluations(*motion, 0.999 * found)[0] > left[0]


@pytest.mark.parametrize("steps", range(6, 11))
def test_a_budget_is_kept_in_runs_shorter_than_the_longest_gap(steps: int) -> None:
    solver, denoise, noise = problem(steps)
    nfe = sample(solver, denoise, noise, Auto(budget=steps - 1)).stats.nfe
    assert sum(nfe) / len(nfe) <= steps and all(steps - 2 <= count <= steps for count in nfe)


@pytest.mark.parametrize("most", [10, 12, 16])
def test_no_sample_makes_more_than_max_nfe(most: int) -> None:
    solver, denoise, noise = problem(50)
    capped = sample(solver, denoise, noise, Auto(tolerance=1e-9, max_nfe=most)).stats.nfe
    assert max(capped) <= most and max(sample(solver, denoise, noise, Auto(tolerance=1e-9)).stats.nfe) > 40
    # the cap changes nothing where it is not reached
    free, loose = (sample(solver, denoise, noise, Auto(tolerance=1e-2, max_nfe=cap)) for cap in (None, 50))
    assert torch.equal(free.x, loose.x)


def test_a_cap_that_no_run_can_keep_is_refused() -> None:
    solver, denoise, noise = problem(50)
    sample(solver, denoise, noise, Auto(max_nfe=10))
    with pytest.raises(ValueError, match="at least 10 of 50 evaluations, asked for 9: raise max_nfe"):
        sample(solver, denoise, noise, Auto(max_nfe=9))


def test_a_calibration_gives_gains_and_the_tolerance_of_a_cost() -> None:
    solver, denoise, noise = problem(STEPS)
    found = calibration(solver)
    plain = sample(solver, denoise, noise, Auto(tolerance=0.003))
    assert torch.equal(sample(solver, denoise, noise, Auto(tolerance=0.003, calibration=found)).x, plain.x)
    doubled = replace(found, gains=tuple(2 * gain for gain in found.gains))
    more = sample(solver, denoise, noise, Auto(tolerance=0.003, calibration=doubled))
    assert sum(more.stats.nfe) > sum(plain.stats.nfe)


def test_a_sample_off_the_course_is_brought_a_quarter_of_the_way_back() -> None:
    found = calibration(solver_of(STEPS), tolerances=(1e-4, 1e-3, 1e-2, 1e-1), evaluations=(20, 16, 8, 4))
    steps, used = np.array([9, 9, 9, 19]), np.array([8.0, 16.0, 2.0, 8.0])  # 8 of 16 are usual up to step 9
    kept = keeping_to(16.0, found, steps, used)
    assert kept == pytest.approx([1e-3, found.tolerance_for(16 / 2**0.25), 1e-4, found.tolerance_for(16 * 2**0.25)])


def test_a_part_of_the_error_of_a_cost_curve_is_made_good() -> None:
    solver, denoise, noise = problem(STEPS)
    found = calibration(solver, tolerances=(1e-5, 1e-4, 1e-3, 1e-2), evaluations=(18.0, 14.0, 11.0, 9.0))  # too low
    asked = sample(solver, denoise, noise, Auto(budget=12, calibration=found)).stats.nfe
    free = sample(solver, denoise, noise, Auto(tolerance=found.tolerance_for(12))).stats.nfe
    assert 12 < np.mean(asked) < 12 + 0.9 * (np.mean(free) - 12)


def test_the_cost_curve_is_read_in_the_logarithm_and_a_plateau_gives_its_lowest_tolerance() -> None:
    found = calibration(solver_of(STEPS), tolerances=(1e-4, 1e-3, 1e-2, 1e-1, 1.0), evaluations=(18, 16, 12, 12, 9))
    assert found.tolerance_for(17) == pytest.approx(10**-3.5)
    assert found.tolerance_for(12) == pytest.approx(1e-2)
    assert found.tolerance_for(19) == 1e-4 and found.tolerance_for(8) == 1.0
    assert found.covers(9, found.settings) and not found.covers(8.9, found.settings)
    assert not found.covers(12, {**found.settings, "max_skips": 4})


def test_a_calibration_is_written_and_read_without_loss() -> None:
    solver = solver_of(STEPS)
    found = calibration(solver, log_snr=(-math.inf, *[node.log_snr for node in solver.nodes[1:]]))
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert Calibration.from_json(content, "x.json") == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "x.json: the calibration has format 1, this version reads 2"),
        ({"gains": None}, "x.json"),
        ({"gains": [1.0, -1.0]}, "x.json"),
        ({"more": 1}, "unknown fields: more"),
        ({"tolerances": [0.1, 0.01, 0.001]}, "tolerances must rise"),
        ({"evaluations": [1.0, 2.0, 3.0]}, "evaluations must not"),
        ({"evaluations": [3.0]}, "3 tolerances has 1 costs"),
    ],
)
def test_a_malformed_calibration_is_refused_with_its_file(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Calibration.from_json({**calibration(solver_of(STEPS)).to_json(), **change}, "x.json")


def test_a_calibration_of_another_solver_is_refused_when_given_and_not_taken_when_found() -> None:
    solver, denoise, noise = problem(STEPS)
    others = {
        "25 steps": solver_of(25, "euler"),
        "not with Euler": solver_of(STEPS, "dpmpp2m"),
        "log-SNR": solver_of(STEPS, "euler", end=0.02),
    }
    for reason, other in others.items():
        foreign = calibration(other)
        assert foreign.misfit(other) is None
        with pytest.raises(ValueError, match=f"does not fit.*{reason}"):
            sample(solver, denoise, noise, Auto(calibration=foreign))
        assert Auto().calibrated([foreign], solver) == Auto()
    own = calibration(solver)
    assert Auto().calibrated([calibration(solver_of(25, "euler")), own], solver).calibration == own


def test_the_calibrations_of_a_denoiser_are_used_by_themselves() -> None:
    solver, denoise, noise = problem(STEPS)
    own = calibration(solver, tolerances=(1e-5, 1e-4, 1e-3, 1e-2), evaluations=(18.0, 14.0, 11.0, 9.0))
    given = sample(solver, denoise, noise, Auto(budget=12, calibration=own))
    without = sample(solver, denoise, noise, Auto(budget=12))
    denoise.calibrations = (calibration(solver_of(25, "euler")), own)  # type: ignore[attr-defined]
    assert torch.equal(sample(solver, denoise, noise, Auto(budget=12)).x, given.x)
    assert not torch.equal(without.x, given.x)
    assert torch.equal(sample(solver, denoise, noise, "uniform").x, sample(solver, denoise, noise, Uniform()).x)


def test_the_nearest_guidance_is_taken_and_never_one_for_the_other() -> None:
    solver = solver_of(STEPS)
    known = [calibration(solver, guidance=scale) for scale in (1.0, 4.0, 7.5)]
    assert [found.guidance for found in near(known, 5.0)] == [4.0, 7.5]
    assert [found.guidance for found in near(known, 1.0)] == [1.0] and near(known, 1.5) == []
    assert [found.guidance for found in near([calibration(solver, guidance=1.6)], 1.5)] == [1.6]


def test_a_solver_is_described_by_the_settings_that_are_not_its_defaults() -> None:
    assert describe_solver(solver_of(STEPS, "euler")) == "Euler()"
    assert describe_solver(make_solver("dpmpp2m", solver_of(STEPS).grid)) == "DPMpp()"
    assert describe_solver(DPMpp(solver_of(STEPS).grid, solver_order=3)) == "DPMpp(solver_order=3)"
