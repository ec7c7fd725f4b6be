"""Searched steps and fitted weights of plans, on data whose denoiser is known exactly."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from sadaflow import Auto, sample
from sadaflow.accelerators.auto.calibration import Calibration
from sadaflow.sampling.auto_calibration import Effort, calibrate
from sadaflow.sampling.plan_fitting import Followed, PlainRun, plain_products
from sadaflow.sampling.plan_steps import PlanCosts
from support.gaussians import SHAPE, Gaussians, solver_of

STEPS, COUNT = 24, 12


def drawn(seed: int, steps: int = STEPS, name: str = "dpmpp2m") -> tuple[Gaussians, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(COUNT, *SHAPE, generator=generator, dtype=torch.float64)
    deviation = torch.rand(COUNT, *SHAPE, generator=generator, dtype=torch.float64) + 0.05
    noise = torch.randn(COUNT, *SHAPE, generator=generator, dtype=torch.float64)
    return Gaussians(solver_of(steps, name, end=0.02), mean, deviation, torch.zeros(COUNT)), noise


def batches(count: int) -> Iterator[tuple[Gaussians, Tensor]]:
    denoise, noise = drawn(1)
    assert count <= COUNT
    yield denoise, noise


@pytest.fixture(scope="module")
def measured() -> Calibration:
    effort = Effort(samples=COUNT, perturbed=4, points=5, planned=COUNT)
    return calibrate(solver_of(STEPS, end=0.02), batches, weights="w", effort=effort)


def test_the_cost_of_a_set_is_what_the_least_squares_leave() -> None:
    solver = solver_of(8, end=0.02)
    denoise, noise = drawn(1, 8)
    run = PlainRun.of(solver, denoise, noise)
    gains = np.full(8, 0.5)
    costs = PlanCosts.of(solver, plain_products([run]), gains)
    trace = sample(solver, denoise, noise, trace=True).trace
    assert trace is not None
    states = torch.cat((trace.x.transpose(0, 1)[:8], run.end[None]))
    values = np.concatenate((states[:1].flatten(1), trace.x0.transpose(0, 1).flatten(1)))
    ends = states.flatten(1).numpy()
    left = []
    for index, end in ((1, 3), (2, 8)):
        known = values[[0, 1, 4][: index + 1]]
        weights = np.linalg.lstsq(known.T, ends[end], rcond=None)[0]
        left.append(((weights @ known - ends[end]) ** 2).mean())
    for between in (0.1, 1.0):
        expected = between * costs.gains[3] * left[0] + left[1]
        assert costs.cost((0, 3), between) == pytest.approx(expected, rel=5e-3)  # a ridge is added


def test_the_searched_set_is_among_the_best() -> None:
    denoise, noise = drawn(1, 12)
    solver = solver_of(12, end=0.02)
    costs = PlanCosts.of(solver, plain_products([PlainRun.of(solver, denoise, noise)]), np.full(12, 0.3))
    found = costs.searched(4, 0.3)
    every = sorted(costs.cost((0, *rest), 0.3) for rest in combinations(range(1, 12), 3))
    assert costs.cost(found, 0.3) <= 1.3 * every[0] < every[len(every) // 2]
    assert costs.searched(5, 0.3, found[:3])[:3] == found[:3]


@pytest.mark.parametrize("speedup", [3.0, 4.0, 5.0, 6.0, 8.0])
def test_auto_keeps_more_than_fewer_steps_of_any_solver(measured: Calibration, speedup: float) -> None:
    solver, (denoise, noise) = solver_of(STEPS, end=0.02), drawn(2)
    plain = sample(solver, denoise, noise).x
    fast = sample(solver, denoise, noise, Auto(speedup=speedup, calibration=measured))
    assert np.mean(fast.stats.nfe) == pytest.approx(max(STEPS / speedup, measured.least), abs=0.5)
    best = min(
        float((sample(solver_of(steps, name, end=0.02), drawn(2, steps, name)[0], noise).x - plain).square().mean())
        for steps in [int(np.ceil(STEPS / speedup))]
        for name in ("dpmpp2m", "unipc", "deis")
    )
    assert float((fast.x - plain).square().mean()) < best / 2  # 3 dB


def test_a_sample_is_the_same_alone_and_in_a_batch(measured: Calibration) -> None:
    solver, (denoise, noise) = solver_of(STEPS, end=0.02), drawn(2)
    auto = Auto(budget=4.5, calibration=measured)
    together = sample(solver, denoise, noise, auto)
    alone = Gaussians(solver, denoise.mean[3:4], denoise.deviation[3:4], denoise.wiggle[3:4])
    one = sample(solver, alone, noise[3:4], auto)
    torch.testing.assert_close(one.x[0], together.x[3], rtol=0, atol=1e-10)
    assert len(set(together.stats.nfe)) > 1


def test_a_lost_sample_does_not_spoil_the_plans_of_the_others() -> None:
    """The network shows the first sample another picture than in its plain run, as one that came to another mode."""
    solver, (denoise, noise) = solver_of(STEPS, end=0.02), drawn(1)
    run = PlainRun.of(solver, denoise, noise)
    mean = denoise.mean.clone()
    mean[0] = 10 - mean[0]
    lost = replace(run, denoise=Gaussians(solver, mean, denoise.deviation, denoise.wiggle))

    def error(followed: PlainRun) -> float:
        end = Followed.begin(solver, [followed]).through((0, 3, 6, 10, 15, 20)).at(STEPS)[0]
        return float((end - run.end)[1:].square().mean())

    assert error(lost) < 2 * error(run)


def test_plans_survive_a_file_and_are_left_out_where_settings_differ(measured: Calibration) -> None:
    assert Calibration.from_json(measured.to_json(), "x.json") == measured
    solver, (denoise, noise) = solver_of(STEPS, end=0.02), drawn(2)
    with pytest.raises(ValueError, match="at least . of 24 evaluations, asked for 4"):
        sample(solver, denoise, noise, Auto(speedup=6, warm_up=3, calibration=measured))
    capped = sample(solver, denoise, noise, Auto(speedup=6, max_nfe=4, calibration=measured))
    assert max(capped.stats.nfe) <= 4
    without = replace(measured, forks=())
    assert "forks" not in without.to_json() and Calibration.from_json(without.to_json(), "x.json") == without
