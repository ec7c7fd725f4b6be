"""The theorems of the SADA paper, measured on data with known trajectories.

References: scipy's DOP853 on a Gaussian mixture for states, autograd through the closed form of a Gaussian for
derivatives of the velocity. Times fall along sampling; lists of past values are newest first.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from sadaflow import SADA, sample
from sadaflow.accelerators import make_accelerator
from sadaflow.accelerators.history import NodeBuffer
from sadaflow.accelerators.sada.criterion import (
    extrapolate,
    instability,
    noise_of,
    sample_scores,
    second_difference,
    stepwise_x0,
)
from sadaflow.accelerators.sada.estimators import ESTIMATORS
from sadaflow.accelerators.sada.token_cache import TokenCache
from sadaflow.models import Site
from sadaflow.solvers import EDM, Grid, RectifiedFlow, make_solver, reference_solution
from sadaflow.solvers.checks.problems import GRIDS, mixture, unit_noise
from sadaflow.solvers.schedule import Schedule

CASES: dict[str, tuple[Schedule, float, float, float]] = {  # schedule, where x is noise, where it is examined, h
    "flow": (RectifiedFlow(), 0.95, 0.5, 0.01),
    "edm": (EDM(), 5.0, 1.5, 0.03),
}
HALVINGS = 4


def transported(case: str, x: Tensor, start: float, end: float) -> Tensor:
    grid = Grid.from_t(CASES[case][0], [start, end])
    return reference_solution(mixture().x0, grid, x, rtol=1e-13, atol=1e-14)


@cache
def base(case: str) -> tuple[Tensor, float]:
    """The mixture's trajectories (5, 2) at a time a little before the examined one."""
    _, begin, t, h = CASES[case]
    return transported(case, unit_noise(5), begin, t + 4 * h), t + 4 * h


@cache
def on_trajectory(case: str, t: float) -> tuple[Tensor, Tensor, Tensor]:
    """x, x0 and y (5, 2) at time t of the mixture's trajectories."""
    schedule, x = CASES[case][0], transported(case, *base(case), t)
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    x0 = mixture().x0(x, alpha, sigma)
    y = float(schedule.d_alpha(t)) * x0 + float(schedule.d_sigma(t)) * (x - alpha * x0) / sigma
    return x, x0, y


def fitted_order(steps: Sequence[float], errors: Sequence[float]) -> float:
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def slope(case: str, error: Callable[[float], Tensor]) -> float:
    """The power of h with which `error(h)` falls, read from successive halvings."""
    steps = [CASES[case][3] / 2**k for k in range(HALVINGS)]
    return fitted_order(steps, [float(error(h).square().mean().sqrt()) for h in steps])


def predicted(case: str, name: str, h: float, even: bool) -> tuple[Tensor, float]:
    """The estimator's state one step on, and that step's time."""
    t = CASES[case][2]
    times = [t, t + h, t + 2 * h] if even else [t, t + 1.6 * h, t + 2.3 * h]
    end = t - h if even else t - 0.7 * h
    past = [on_trajectory(case, time) for time in times]
    weights = ESTIMATORS[name](times, end)
    return extrapolate(past[0][0], [y for _, _, y in past], end - t, weights), end


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("name", "even", "uneven"),
    [("released", 1, 1), ("paper", 2, 1), ("ab2", 2, 1), ("ab3", 3, 1), ("nonuniform", 3, 3)],
)
def test_estimators_carry_the_state_with_the_order_they_state(case: str, name: str, even: int, uneven: int) -> None:
    for order, is_even in ((even, True), (uneven, False)):

        def error(h: float, is_even: bool = is_even) -> Tensor:
            state, end = predicted(case, name, h, is_even)
            return state - on_trajectory(case, end)[0]

        assert slope(case, error) == pytest.approx(order + 1, abs=0.15), is_even


def gaussian_paths(t: Tensor, mean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
    """x(t) (B, ...) on rectified flow of data N(mean, deviation^2), from `noise` at t = 1, in closed form."""
    return (1 - t) * mean + noise * ((1 - t) ** 2 * deviation**2 + t**2).sqrt()


def derivatives(t: float, *data: Tensor, count: int = 4) -> list[Tensor]:
    """x, y = dx/dt, y', y'' ... at t, each (B, ...), by autograd."""
    time = torch.full_like(data[0], t, requires_grad=True)
    values = [gaussian_paths(time, *data)]
    for _ in range(count - 1):
        values.append(torch.autograd.grad(values[-1].sum(), time, create_graph=True)[0])
    return [value.detach() for value in values]


def gaussians(samples: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Data of (samples, 1, 2, 2): mean, deviation, and noise at t = 1."""
    generator = torch.Generator().manual_seed(3)
    mean, noise = (torch.randn(samples, 1, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return mean, 0.1 + torch.rand(samples, 1, 2, 2, generator=generator, dtype=torch.float64), noise


@pytest.mark.parametrize(
    ("name", "constant", "power"),
    [("released", 1 / 2, 2), ("paper", 13 / 12, 3), ("ab2", 5 / 12, 3), ("ab3", 3 / 8, 4)],
)
def test_error_constants_are_those_of_the_docstrings(name: str, constant: float, power: int) -> None:
    data, t, dt = gaussians(), 0.5, -2e-4 if power < 4 else -2e-3
    past = [derivatives(t - k * dt, *data, count=2) for k in range(3)]
    state = extrapolate(past[0][0], [y for _, y in past], dt, ESTIMATORS[name]([], 0.0))
    error = gaussian_paths(torch.tensor(t + dt, dtype=torch.float64), *data) - state
    expected = constant * dt**power * derivatives(t, *data, count=power + 1)[power]
    assert float((error - expected).norm() / expected.norm()) < 10 * abs(dt)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_theorem_3_5_the_stepwise_x0_is_of_first_order_as_the_noise_it_reuses(name: str) -> None:
    """(x - sigma eps) / alpha with the eps of the step before errs by sigma/alpha times eps' change, however good x."""

    def error(h: float) -> Tensor:
        state, end = predicted("flow", name, h, even=True)
        t = CASES["flow"][2]
        x, x0, _ = on_trajectory("flow", t)
        eps = noise_of(x, x0, 1 - t, t)
        return stepwise_x0(state, eps, 1 - end, end) - on_trajectory("flow", end)[1]

    assert slope("flow", error) == pytest.approx(1, abs=0.15)


def test_criterion_3_4_on_the_true_trajectory_is_minus_the_square_of_the_second_derivative() -> None:
    data, t = gaussians(), 0.5
    curvature = derivatives(t, *data)[3]
    errors = []
    for h in (4e-3, 2e-3, 1e-3):
        past = [derivatives(t + k * h, *data, count=2) for k in range(3)]
        velocities = [y for _, y in past]
        x_next = gaussian_paths(torch.tensor(t - h, dtype=torch.float64), *data)
        scores = instability(x_next, extrapolate(past[0][0], velocities, -h, ESTIMATORS["paper"]([], 0.0)), velocities)
        bent = curvature.abs() > 0.2  # elsewhere the signs are those of the next derivative
        assert int(bent.sum()) > 200 and bool((scores < 0)[bent].all()) and max(sample_scores(scores).read()) < 0
        assert torch.equal((second_difference(velocities) > 0)[bent], (curvature > 0)[bent])
        expected = -13 / 12 * h**5 * curvature**2
        errors.append(float((scores - expected).norm() / expected.norm()))
    assert fitted_order((4, 2, 1), errors) == pytest.approx(1, abs=0.1) and errors[-1] < 0.02


def test_criterion_3_4_with_eulers_step_is_the_sign_of_the_velocitys_change_times_its_second_derivative() -> None:
    data, t, h = gaussians(), 0.25, 1e-3
    _, _, change, curvature = derivatives(t, *data)
    past = [derivatives(t + k * h, *data, count=2) for k in range(3)]
    velocities = [y for _, y in past]
    x = past[0][0]
    scores = instability(x - h * velocities[0], extrapolate(x, velocities, -h, (5 / 6, 5 / 6, -2 / 3)), velocities)
    calming = (change * curvature).flatten(1).mean(dim=1)  # above 0 where |y'| falls as t falls
    clear = [row for row in range(64) if abs(float(calming[row])) > 0.05]
    votes = [score < 0 for score in sample_scores(scores).read()]
    assert [votes[row] for row in clear] == [bool(calming[row] > 0) for row in clear]
    assert 8 < sum(votes[row] for row in clear) < len(clear) - 8, "both signs should occur"


@pytest.mark.parametrize("terms", [2, 3, 4])
@pytest.mark.parametrize("beyond", [1, 2, 3])
def test_theorem_3_7_lagrange_polynomials_of_k_terms_err_by_the_kth_power(terms: int, beyond: int) -> None:
    """Nodes lie 4 steps apart; x0 is wanted 1, 2 and 3 steps after the newest, as the multistep scheme does."""

    def error(h: float) -> Tensor:
        t, buffer = CASES["flow"][2], NodeBuffer(terms, 1)
        for k in reversed(range(terms)):
            buffer.push([0], t + 4 * k * h / 4, on_trajectory("flow", t + 4 * k * h / 4)[1][None])
        at = t - beyond * h / 4
        return buffer.at([0], at)[0] - on_trajectory("flow", at)[1]

    assert slope("flow", error) == pytest.approx(terms, abs=0.15)


def test_equations_18_to_20_a_reconstructed_token_errs_by_the_step_and_a_kept_one_not_at_all() -> None:
    site = Site("block", "b", 0, (4, 4))
    hidden = torch.randn(1, 16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def moved(h: float) -> Tensor:
        return hidden * (1 + h) + h

    def block(tokens: Tensor) -> Tensor:
        return tokens.sin()

    def errors(h: float) -> tuple[Tensor, Tensor]:
        cache = TokenCache(samples=1, max_depth=0)
        cache.filling([0])(site, block, hidden)
        scores = torch.full((1, 4, 4), -1.0)
        scores[0, 1, 2] = 1.0
        answer = cache.pruning([0], scores, cell=4, limit=16)(site, block, moved(h))
        off = (answer - block(moved(h)))[0]
        return off[1 * 4 + 2], off[[0, 3, 15]]

    kept = [errors(h)[0].abs().max() for h in (0.1, 0.05)]
    assert kept == [0.0, 0.0]
    steps = [0.02 / 2**k for k in range(4)]
    assert fitted_order(steps, [float(errors(h)[1].norm()) for h in steps]) == pytest.approx(1, abs=0.05)


def test_estimators_are_chosen_by_name_and_each_does_its_own() -> None:
    solver = make_solver("dpmpp2m", GRIDS["vp-karras"](50))
    denoise, noise = mixture().denoiser(solver), unit_noise(5)
    ends = [sample(solver, denoise, noise, SADA(estimator=name)).x for name in ESTIMATORS]
    assert all(not torch.equal(a, b) for i, a in enumerate(ends) for b in ends[:i])
    own = sample(solver, denoise, noise, SADA(weights=(3 / 2, -1 / 2, 0.0))).x
    assert torch.equal(own, ends[list(ESTIMATORS).index("ab2")])
    assert torch.equal(sample(solver, denoise, noise, "sada").x, ends[list(ESTIMATORS).index("paper")])


def test_unknown_and_doubled_estimators_are_refused() -> None:
    with pytest.raises(ValueError, match="'ab7'.*paper, released, ab2, ab3, nonuniform"):
        SADA(estimator="ab7")
    with pytest.raises(ValueError, match="either estimator='ab2' or weights"):
        SADA(estimator="ab2", weights=(1.0, 0.0, 0.0))


def test_the_papers_names_for_the_variants_are_understood() -> None:
    assert make_accelerator("paper") == make_accelerator("sada-paper") == make_accelerator("sada") == SADA()
    assert make_accelerator("released") == make_accelerator("sada-released")
