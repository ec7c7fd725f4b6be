"""Convergence from pure noise, closed forms, and adaptive steps, on exact denoisers."""

import numpy as np
import pytest
import torch

from sadaflow.solvers import (
    EDM,
    SOLVERS,
    Adaptive,
    Grid,
    RectifiedFlow,
    draws_noise,
    make_solver,
    reference_solution,
)
from sadaflow.solvers.adaptive import PAIRS
from sadaflow.solvers.checks.problems import GRIDS, final_x, mixture, stable_diffusion, tilted_gaussian, unit_noise
from sadaflow.solvers.exact import GaussianMixture
from sadaflow.solvers.spacing import shift_time

DETERMINISTIC = [name for name in SOLVERS if not draws_noise(name)]


def pure_noise(n: int) -> Grid:
    """Flow from t = 1, where alpha = 0 and log-SNR is infinite."""
    return Grid.from_t(RectifiedFlow(), shift_time(np.linspace(1, 0.1, n + 1), 2.0))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_from_pure_noise(name: str) -> None:
    """The first step has no length in log-SNR: methods built on it are of order 2 at most here, never of less."""
    data, steps = mixture(), [96, 192, 384]
    exact = reference_solution(data.x0, pure_noise(2), unit_noise(5))
    errors = []
    for n in steps:
        solver = make_solver(name, pure_noise(n))
        x = final_x(solver, data.denoiser(solver), unit_noise(5))
        errors.append(float((x - exact).square().mean().sqrt()))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope > min(solver.order, 2) - 0.2, f"errors {errors}"


@pytest.mark.parametrize("family", GRIDS)
def test_gaussian_in_closed_form(family: str) -> None:
    data, grid = tilted_gaussian(), GRIDS[family](400)
    start = unit_noise(6) * grid.start_scale
    first, last = grid.points[0], grid.points[-1]
    exact = data.transport(start, (first.alpha, first.sigma), (last.alpha, last.sigma))
    torch.testing.assert_close(reference_solution(data.x0, grid, start), exact, rtol=1e-9, atol=1e-9)
    solver = make_solver("dpmpp2m", grid)
    torch.testing.assert_close(final_x(solver, data.denoiser(solver), unit_noise(6)), exact, rtol=1e-3, atol=1e-3)


def test_mixture_answers_with_the_posterior_mean() -> None:
    """Against self-normalised sums over draws from the mixture itself."""
    data, generator = mixture(), torch.Generator().manual_seed(0)
    count = 400_000
    which = torch.multinomial(data.weights, count, replacement=True, generator=generator)
    roots = torch.linalg.cholesky(data.covariances)
    normal = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    draws = data.means[which] + torch.einsum("nde,ne->nd", roots[which], normal)
    alpha, sigma = 0.6, 0.8
    x = unit_noise(4)
    weight = (-(x[:, None] - alpha * draws).square().sum(-1) / (2 * sigma**2)).softmax(-1)
    torch.testing.assert_close(data.x0(x, alpha, sigma), weight @ draws, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("weights", "covariance", "message"),
    [
        ([0.5, 0.6], 1.0, "sum to 1"),
        ([1.0], 1.0, "need weights"),
        ([0.5, 0.5], -1.0, "positive definite"),
    ],
)
def test_mixtures_refused(weights: list[float], covariance: float, message: str) -> None:
    eye = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    with pytest.raises(ValueError, match=message):
        GaussianMixture(torch.tensor(weights, dtype=torch.float64), torch.zeros(2, 2).double(), covariance * eye)


ENDS = {
    "vp": (stable_diffusion(), 999.0, 10.0),
    "edm": (EDM(), 20.0, 0.05),
    "flow": (RectifiedFlow(), 1.0, 0.05),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("family", ENDS)
def test_adaptive_meets_its_tolerance(family: str, pair: str) -> None:
    schedule, start, end = ENDS[family]
    data, grid = mixture(), Grid.from_t(schedule, [start, end])
    exact = reference_solution(data.x0, grid, unit_noise(5) * grid.start_scale)
    costs = []
    for tolerance in (1e-3, 1e-5):
        asked: list[float] = []

        def denoise(x: torch.Tensor, node: object, asked: list[float] = asked) -> torch.Tensor:
            asked.append(node.t)  # type: ignore[attr-defined]
            return data.x0(x, node.alpha, node.sigma)  # type: ignore[attr-defined]

        run = Adaptive(schedule, start, end, rtol=tolerance, atol=tolerance, pair=pair).solve(denoise, unit_noise(5))
        assert float((run.x - exact).abs().max()) < 10 * tolerance
        assert run.nfe == len(asked) and run.accepted == run.grid.n_steps
        costs.append(run.nfe)
        # The grid of the accepted steps serves a fixed-step solver.
        solver = make_solver("rk4", run.grid)
        again = final_x(solver, data.denoiser(solver), unit_noise(5))
        assert float((again - exact).abs().max()) < 0.1
    assert costs[0] < costs[1]


def test_adaptive_rejects_and_ends_clean() -> None:
    data = mixture()
    run = Adaptive(EDM(), 20.0, 0.05, rtol=1e-6, atol=1e-6, clean=True).solve(
        lambda x, node: data.x0(x, node.alpha, node.sigma), unit_noise(5)
    )
    assert float(run.grid.sigma[-1]) == 0 and bool(torch.isfinite(run.x).all())
    # A field that jumps half way: steps across it fail until they are short.
    jump = Adaptive(EDM(), 20.0, 0.05).solve(
        lambda x, node: data.x0(x, node.alpha, node.sigma) + float(node.sigma < 1), unit_noise(5)
    )
    assert jump.rejected > 0 and bool(torch.isfinite(jump.x).all())


def test_adaptive_velocity_is_the_solvers_own() -> None:
    data, grid = mixture(), GRIDS["vp-uniform"](9)
    solver, node = make_solver("euler", grid), grid.nodes[4]
    x = unit_noise(3)
    x0 = data.x0(x, node.alpha, node.sigma)
    adaptive = Adaptive(grid.schedule, 999.0, 10.0)
    torch.testing.assert_close(adaptive.velocity(x, x0, node), solver.velocity(x, x0, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pair": "rk45"}, "bogacki-shampine, dormand-prince"),
        ({"rtol": 0.0}, "above 0"),
        ({"t_end": 0.0}, "clean=True"),
    ],
)
def test_adaptive_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adaptive(**{"schedule": EDM(), "t_start": 20.0, "t_end": 0.05, **settings})  # type: ignore[arg-type]


def test_adaptive_failures_are_named() -> None:
    solver = Adaptive(EDM(), 20.0, 0.05, max_evals=20, rtol=1e-9, atol=1e-9)
    with pytest.raises(RuntimeError, match="20 evaluations"):
        solver.solve(lambda x, node: mixture().x0(x, node.alpha, node.sigma), unit_noise(2))
    with pytest.raises(FloatingPointError, match="sigma=20"):
        solver.solve(lambda x, node: x * float("nan"), unit_noise(2))
