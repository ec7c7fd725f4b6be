"""Noise sources: pure, per sample, unit normal; Brownian paths that do not depend on the number of steps."""

import math

import pytest
import torch

from sadaflow.solvers import BrownianNoise, EulerAncestral, SeededNoise, make_solver
from sadaflow.solvers.checks.problems import GRIDS, final_x, mixture, unit_noise
from sadaflow.solvers.runge_kutta import Churn, RungeKutta

LIKE = torch.zeros(3, 2, 4, 4)


@pytest.mark.parametrize("source", [SeededNoise, BrownianNoise])
def test_noise_is_a_pure_function_of_seed_and_step(source: type) -> None:
    noise = source((4, 5, 6))
    first = noise(3, (0.6, 0.5), LIKE)
    assert torch.equal(first, noise(3, (0.6, 0.5), LIKE)) and first.shape == LIKE.shape
    alone = source((5,))(3, (0.6, 0.5), LIKE[:1])
    assert torch.equal(alone[0], first[1])
    assert not torch.equal(first, noise(4, (0.5, 0.4), LIKE))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("source", [SeededNoise, BrownianNoise])
def test_noise_has_the_dtype_of_the_state(source: type) -> None:
    noise = source((1, 2, 3))
    exact = noise(1, (0.9, 0.8), LIKE.double())
    assert exact.dtype == torch.float64
    assert torch.equal(noise(1, (0.9, 0.8), LIKE), exact.float())


def test_draws_are_unit_normal_and_independent() -> None:
    draws = torch.stack([SeededNoise((11,))(step, (1.0, 0.0), torch.zeros(1, 5000)) for step in range(1, 5)])[:, 0]
    # Five standard errors of a mean of 5000: a false alarm in fewer than 1e-6 of seeds.
    bound = 5 / math.sqrt(5000)
    assert float(draws.mean(1).abs().max()) < bound
    assert float((draws.square().mean(1) - 1).abs().max()) < bound * math.sqrt(2)
    assert float((draws[0] * draws[1]).mean().abs()) < bound


def test_brownian_increments_add_up_whatever_the_steps() -> None:
    noise, like = BrownianNoise((3,)), torch.zeros(1, 4, dtype=torch.float64)

    def increment(start: float, end: float) -> torch.Tensor:
        return noise(1, (start, end), like) * math.sqrt(start - end)

    whole = increment(0.93, 0.07)
    parts = increment(0.93, 0.61) + increment(0.61, 0.6099) + increment(0.6099, 0.07)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_brownian_increments_are_unit_normal_and_independent() -> None:
    noise, like = BrownianNoise((9,)), torch.zeros(1, 5000, dtype=torch.float64)
    spans = [(0.9, 0.7), (0.7, 0.69), (0.69, 0.2), (0.001, 0.0)]
    draws = torch.stack([noise(1, span, like)[0] for span in spans])
    bound = 5 / math.sqrt(5000)
    assert float((draws.square().mean(1) - 1).abs().max()) < bound * math.sqrt(2)
    products = draws @ draws.T / 5000
    assert float((products - products.diag().diag()).abs().max()) < bound


def test_brownian_path_makes_runs_of_different_lengths_comparable() -> None:
    """With one path a finer grid refines the same sample; with fresh draws it is another sample."""
    data = mixture()

    def end(steps: int, source: type) -> torch.Tensor:
        solver = EulerAncestral(GRIDS["edm-karras"](steps), noise=source(range(6)))
        return final_x(solver, data.denoiser(solver), unit_noise(6))

    drift = {source: float((end(60, source) - end(30, source)).abs().mean()) for source in (BrownianNoise, SeededNoise)}
    assert drift[BrownianNoise] < 0.35 * drift[SeededNoise]


def test_noise_refused() -> None:
    with pytest.raises(ValueError, match="2 seeds"):
        SeededNoise((1, 2))(1, (0.5, 0.4), LIKE)
    with pytest.raises(ValueError, match="span"):
        BrownianNoise((1, 2, 3))(1, (0.4, 0.5), LIKE)
    with pytest.raises(ValueError, match="depth"):
        BrownianNoise((1,), depth=0)
    solver = make_solver("euler-ancestral", GRIDS["vp-karras"](5))
    with pytest.raises(ValueError, match="noise=SeededNoise"):
        final_x(solver, mixture().denoiser(solver), unit_noise(2))


@pytest.mark.parametrize("name", ["euler-ancestral", "ddpm", "lcm", "dpmpp2m-sde", "dpmpp-sde", "churned heun"])
def test_each_step_draws_the_noise_of_its_own_span(name: str) -> None:
    """So that a Brownian path is passed through once: no span is drawn twice, and none left out."""
    asked: list[tuple[float, float]] = []

    def noise(index: int, span: tuple[float, float], like: torch.Tensor) -> torch.Tensor:
        asked.append(span)
        return torch.zeros_like(like)

    grid = GRIDS["vp-karras"](6)
    churned = name == "churned heun"
    solver = RungeKutta(grid, churn=Churn(2.0), noise=noise) if churned else make_solver(name, grid, noise=noise)
    state = solver.start(torch.ones(1, 4))
    while state.step < solver.n_evals:
        state = solver.step(state, 0.5 * state.x)
    marks = [point.noise_fraction for point in grid.points]
    parts = {start: min(end for begun, end in asked if begun == start) for start, _ in asked}  # a stage may end before
    assert list(parts) == sorted(parts, reverse=True) and all(start > end for start, end in parts.items())
    assert [*parts][1:] == [*parts.values()][:-1]  # each begins where the one before ended
    assert set(parts) >= set(marks[: 6 if churned else 5])
