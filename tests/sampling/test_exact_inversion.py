"""Inversion on data whose denoiser is known exactly: closed forms, the way back, and what is refused."""

import numpy as np
import pytest
import torch

from sadaflow.sampling.inversion.anderson import combined
from sadaflow.sampling.inversion.edit_friendly import invert_edit_friendly
from sadaflow.sampling.inversion.exact import invert_exactly
from sadaflow.sampling.inversion.rising import invert_by_ode
from sadaflow.solvers import (
    EDM,
    CosineVP,
    Euler,
    Grid,
    RectifiedFlow,
    Schedule,
    SeededNoise,
    Solver,
    make_solver,
    reference_solution,
)
from sadaflow.solvers.checks.problems import final_x, mixture, stable_diffusion, unit_noise
from sadaflow.solvers.exact import Gaussian
from sadaflow.solvers.inversion import lowest_time, noisy_grid, reversible, rising, rising_grid

SCHEDULES: dict[str, Schedule] = {
    "vp": stable_diffusion(), "edm": EDM(sigma_max=20.0), "flow": RectifiedFlow(), "cosine": CosineVP(),
}  # fmt: skip
SEEDS = SeededNoise((1, 2, 3, 4, 5))


def grid(name: str, steps: int) -> Grid:
    schedule = SCHEDULES[name]
    return Grid.from_t(schedule, np.linspace(schedule.t_max, schedule.t_min, steps + 1))


def pictures(solver: Solver) -> torch.Tensor:
    end = solver.grid.points[-1]
    return end.alpha * mixture().means[torch.arange(5) % 3] + 0.1 * unit_noise(5)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["euler", "dpmpp2s"])
def test_the_solvers_own_steps_lead_back(schedule: str, name: str) -> None:
    solver = reversible(make_solver(name, grid(schedule, 4)))
    x, denoise = pictures(solver), mixture().denoiser(solver)
    found = invert_exactly(solver, denoise, x, 1e-8, 100)
    state = solver.start(found.x / solver.grid.start_scale)
    while state.step < solver.n_evals:
        state = solver.step(state, denoise(state.x, state.step))
    torch.testing.assert_close(state.x, x, rtol=0, atol=1e-7)
    assert max(found.stats.error) < 1e-8 and found.stats.iterations > 2
    assert all(solver.n_evals < nfe <= 101 * solver.n_evals for nfe in found.stats.nfe)
    ode = invert_by_ode(solver, denoise, mixture().denoiser(rising(solver)), x)
    assert max(ode.stats.error) > 1e-4 and ode.stats.nfe == [2.0 * solver.n_evals] * 5 or name != "euler"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_single_data_point_is_inverted_in_closed_form(schedule: str) -> None:
    """With x0 constant the path is x = alpha c + sigma eps, for any number of steps."""
    solver = reversible(Euler(grid(schedule, 3)))
    first, last = solver.grid.points[0], solver.grid.points[-1]
    c, eps = torch.tensor([0.3, -1.0], dtype=torch.float64), unit_noise(4)
    x = last.alpha * c + last.sigma * eps
    exact = first.alpha * c + first.sigma * eps

    def denoise(x: torch.Tensor, step: int) -> torch.Tensor:
        return c.expand_as(x)

    torch.testing.assert_close(invert_by_ode(solver, denoise, denoise, x).x, exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(invert_exactly(solver, denoise, x, 1e-10, 100).x, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("schedule", ["vp", "flow"])
def test_a_gaussian_is_inverted_in_closed_form_at_order_1(schedule: str) -> None:
    """N(c, S^2): x_b = b c + sqrt((b^2 S^2 + s_b^2) / (a^2 S^2 + s_a^2)) (x_a - a c)."""
    c, spread = torch.tensor([0.7, -1.2], dtype=torch.float64), 0.6
    data = Gaussian(c, spread**2 * torch.eye(2, dtype=torch.float64))
    gaps: dict[str, list[float]] = {"ode": [], "exact": []}
    for n in (24, 48):
        solver = reversible(Euler(grid(schedule, n)))
        a, b = solver.grid.points[-1], solver.grid.points[0]
        x = a.alpha * c + a.sigma * unit_noise(4) + 0.4
        ratio = ((b.alpha * spread) ** 2 + b.sigma**2) / ((a.alpha * spread) ** 2 + a.sigma**2)
        exact = b.alpha * c + ratio**0.5 * (x - a.alpha * c)
        up = rising(solver)
        gaps["ode"].append(float((final_x(up, data.denoiser(up), x) - exact).abs().max()))
        found = invert_exactly(solver, data.denoiser(solver), x, 1e-8, 100)
        gaps["exact"].append(float((found.x - exact).abs().max()))
    for method, (coarse, fine) in gaps.items():
        assert 1.7 < coarse / fine < 2.3, f"{method}: {coarse}, {fine}"


def test_exact_inversion_approaches_the_ode_that_scipy_solves() -> None:
    solver = reversible(make_solver("heun", grid("flow", 24)))
    x = pictures(solver)
    exact = reference_solution(mixture().x0, rising_grid(solver.grid), x)
    found = invert_exactly(solver, mixture().denoiser(solver), x, 1e-6, 100)
    torch.testing.assert_close(found.x, exact, rtol=0, atol=2e-2)


@pytest.mark.parametrize("name", ["euler-ancestral", "ddpm", "dpmpp2m-sde", "dpmpp-sde", "kdpm2-ancestral"])
@pytest.mark.parametrize("schedule", ["vp", "flow"])
def test_stochastic_solvers_replay_the_noise_found(schedule: str, name: str) -> None:
    solver = reversible(make_solver(name, grid(schedule, 6), noise=SEEDS))
    x, denoise = pictures(solver), mixture().denoiser(solver)
    found = invert_edit_friendly(solver, denoise, x, SEEDS)
    again = final_x(found.solver, denoise, found.x / solver.grid.start_scale)
    torch.testing.assert_close(again, x, rtol=0, atol=1e-10)
    assert found.stats.nfe == [2.0 * solver.n_evals] * 5 and max(found.stats.error) < 1e-10
    start = solver.nodes[0]
    eps = (found.x - start.alpha * x / solver.grid.points[-1].alpha) / start.sigma
    torch.testing.assert_close(eps, SEEDS(0, (1.0, 0.0), x), rtol=0, atol=1e-10)


def test_the_path_of_edit_friendly_noise_is_drawn_independently() -> None:
    """Equation 5 of arXiv 2304.06140, written out for DDIM with eta = 1 on the table of Stable Diffusion."""
    solver = reversible(make_solver("euler-ancestral", grid("vp", 4), noise=SEEDS))
    x, data = pictures(solver), mixture()
    found = invert_edit_friendly(solver, data.denoiser(solver), x, SEEDS)
    points = solver.grid.points
    path = [p.alpha * x / points[-1].alpha + p.sigma * SEEDS(k, (1, 0), x) for k, p in enumerate(points[:-1])] + [x]
    for k, (a, b) in enumerate(zip(points, points[1:], strict=False)):
        x0 = data.x0(path[k], a.alpha, a.sigma)
        eps = (path[k] - a.alpha * x0) / a.sigma
        up = b.sigma / a.sigma * (1 - (a.alpha / b.alpha) ** 2) ** 0.5
        z = (path[k + 1] - b.alpha * x0 - (b.sigma**2 - up**2) ** 0.5 * eps) / up
        torch.testing.assert_close(found.solver.noise(k + 1, (1, 0), x), z, rtol=1e-7, atol=1e-7)  # type: ignore[attr-defined]


def test_a_sample_does_not_depend_on_its_batch() -> None:
    solver = reversible(make_solver("heun", grid("vp", 5)))
    x, denoise = pictures(solver), mixture().denoiser(solver)
    batch = invert_exactly(solver, denoise, x, 1e-6, 100)
    alone = invert_exactly(solver, denoise, x[3:4], 1e-6, 100)
    torch.testing.assert_close(batch.x[3:4], alone.x, rtol=0, atol=1e-12)
    assert batch.stats.nfe[3] == alone.stats.nfe[0] and len(set(batch.stats.nfe)) > 1


def test_what_cannot_be_inverted_says_what_to_do() -> None:
    def exactly(name: str, iterations: int = 100, noise: float = 1.0) -> None:
        solver = reversible(make_solver(name, grid("vp", 8)))
        denoise = mixture().denoiser(solver)
        invert_exactly(solver, lambda x, step: noise * denoise(x, step), pictures(solver), 1e-6, iterations)

    for name in ("dpmpp2m", "unipc", "ab3", "plms"):
        with pytest.raises(ValueError, match="combines the outputs of many steps.*'euler', 'heun'.*method='ode'"):
            exactly(name)
    with pytest.raises(ValueError, match=r"did not converge: .* ends .* away .* more steps, less guidance"):
        exactly("euler", iterations=2)
    with pytest.raises(FloatingPointError, match="x0 holds NaN or infinity at evaluation 7"):
        exactly("euler", noise=float("nan"))
    solver = reversible(make_solver("tcd", grid("vp", 4), noise=SEEDS))
    with pytest.raises(ValueError, match="TCD draws no noise in its last step"):
        invert_edit_friendly(solver, mixture().denoiser(solver), pictures(solver), SEEDS)


def test_grids_end_at_the_least_noise_of_training() -> None:
    assert [lowest_time(SCHEDULES[name]) for name in ("vp", "edm")] == [0.0, 0.002]
    assert lowest_time(SCHEDULES["flow"]) == pytest.approx(1e-3, rel=2e-3)
    down = grid("vp", 4)
    low = noisy_grid(down)
    assert torch.equal(low.t[:-1], down.t[:-1]) and low.points[-1].t == 0 and low.n_steps == 4
    assert noisy_grid(low) is low
    leading = Grid.from_t(stable_diffusion(), [500.0, 0.0, -1.0])
    assert noisy_grid(leading).t.tolist() == [500.0, 0.0]
    up = rising_grid(low)
    assert up.t.tolist() == low.t.tolist()[::-1] and up.timestep.tolist() == up.t[:-1].tolist()
    with pytest.raises(ValueError, match="the grid rises already"):
        noisy_grid(up)
    with pytest.raises(ValueError, match="no point above t = 0"):
        noisy_grid(Grid.from_t(stable_diffusion(), [0.0, -1.0]))


def test_anderson_acceleration_solves_a_linear_equation_in_as_many_steps_as_it_has_unknowns() -> None:
    matrix = torch.tensor([[0.4, 0.3], [-0.2, 0.8]], dtype=torch.float64)
    target = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    x, states, residuals = torch.zeros(1, 2, dtype=torch.float64), [], []
    for _ in range(4):
        states, residuals = [x, *states][:4], [target - x @ matrix.T, *residuals][:4]
        x = combined(states, residuals)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, target.T).T, rtol=1e-6, atol=1e-6)
