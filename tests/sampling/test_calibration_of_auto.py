"""Measured gains and costs of `auto`, on data whose denoiser is known exactly."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from sadaflow import Auto, sample
from sadaflow.sampling.auto_calibration import Effort, calibrate
from sadaflow.sampling.error_gains import error_gains, gains_of_all_steps
from sadaflow.solvers import SeededNoise, make_solver
from support.gaussians import SHAPE, Gaussians, problem, solver_of


@pytest.mark.parametrize("name", ["euler", "dpmpp2m"])
@pytest.mark.parametrize("batch", [2, 100])
def test_gains_are_those_of_runs_with_one_x0_replaced(name: str, batch: int) -> None:
    solver, denoise, noise = problem(12, name=name)
    steps, log_snr = [2, 5, 9], [node.log_snr for node in solver.nodes]
    found = error_gains(solver, denoise, noise, steps, batch=batch)
    plain = sample(solver, denoise, noise, trace=True)
    assert plain.trace is not None
    past = plain.trace.x0
    for index, step in enumerate(steps):
        slope = (past[:, step - 1] - past[:, step - 2]) / (log_snr[step - 1] - log_snr[step - 2])
        other = past[:, step - 1] + slope * (log_snr[step] - log_snr[step - 1])

        def replaced(x: Tensor, at: int, step: int = step, other: Tensor = other) -> Tensor:
            return other if at == step else denoise(x, at)

        moved = (sample(solver, replaced, noise).x - plain.x).flatten(1).square().mean(1).sqrt()
        error = (other - past[:, step]).flatten(1).square().mean(1).sqrt()
        assert found[index] == pytest.approx((moved / error).numpy(), rel=1e-6)


def test_gains_between_the_measured_steps_follow_the_weight_of_x0() -> None:
    solver = solver_of(20, "euler", end=0.02)
    ratios = np.array([node.sigma / node.alpha for node in solver.nodes])
    weights = 1 - np.append(ratios[1:], 0.0) / ratios
    steps = [2, 8, 17]
    # errors that fade as a power of s are a line in log-SNR on a logarithmic scale
    measured = np.stack([0.5 * weights[steps] * ratios[steps] ** -0.3] * 4, axis=1)
    found = gains_of_all_steps(solver, steps, measured)
    assert found[2:18] == pytest.approx((0.5 * weights * ratios**-0.3)[2:18])
    spread = measured * np.array([0.0, 0.0, 2.0, 0.0])  # root mean square over samples
    assert gains_of_all_steps(solver, steps, spread) == pytest.approx(found)


def test_what_is_asked_for_is_what_comes_and_a_hard_sample_gets_more() -> None:
    steps, count = 40, 24
    solver = solver_of(steps, "euler")

    def drawn(first: int, rows: range) -> tuple[Gaussians, Tensor]:
        generator = torch.Generator().manual_seed(first)
        mean = torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)
        deviation = torch.logspace(-2, 0, count, dtype=torch.float64).view(-1, 1, 1, 1).expand(count, *SHAPE)
        noise = torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)
        part = slice(rows.start, rows.stop)
        return Gaussians(solver, mean[part], deviation[part], torch.zeros(len(rows))), noise[part]

    def batches(number: int) -> Iterator[tuple[Gaussians, Tensor]]:
        for first in range(0, number, 8):
            yield drawn(1, range(first, min(first + 8, number)))

    effort = Effort(samples=count, perturbed=count, points=9, planned=count)
    found = calibrate(solver, batches, weights="w", effort=effort)
    assert found.misfit(solver) is None and found.samples == count
    for speedup in (1.5, 2.0, 2.5, 3.0):
        denoise, noise = drawn(2, range(count))
        nfe = sample(solver, denoise, noise, Auto(speedup=speedup, calibration=found)).stats.nfe
        assert np.mean(nfe) == pytest.approx(steps / speedup, rel=0.03)
    assert np.ptp(nfe) >= 1


def test_solvers_that_auto_refuses_are_not_calibrated() -> None:
    def never(count: int) -> Iterator[tuple[Gaussians, Tensor]]:
        raise AssertionError("no sample is to be drawn")
        yield

    noisy = make_solver("euler-ancestral", solver_of(20).grid, noise=SeededNoise((0,)))
    with pytest.raises(ValueError, match="EulerAncestral draws noise"):
        calibrate(noisy, never, weights="w")
    with pytest.raises(ValueError, match="RungeKutta returns to earlier times"):
        calibrate(solver_of(20, "heun"), never, weights="w")
    with pytest.raises(ValueError, match="at least 5 steps, got 4"):
        calibrate(solver_of(4), never, weights="w")
    with pytest.raises(ValueError, match="samples of a calibration must be at least 1, got 0"):
        Effort(samples=0)
