"""RES, SEEDS, ER-SDE, gradient estimation and heunpp2 against their published formulas, evaluated apart from ours."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from sadaflow.solvers import EDM, ERSDE, ExponentialRungeKutta, Grid, State, draws_noise, make_solver
from sadaflow.solvers.checks import check_solver
from sadaflow.solvers.checks.problems import GRIDS, clean, final_x, mixture, unit_noise
from sadaflow.solvers.polynomials import phi

LEVELS = (14.0, 9.0, 7.5, 4.0, 2.6, 1.1, 0.7, 0.0)  # uneven on purpose


def levels_grid() -> Grid:
    """An EDM grid, on which alpha is 1 and the published formulas hold as they stand."""
    return Grid.from_t(EDM(), LEVELS, start_scale=LEVELS[0])


def denoise(x: Tensor, sigma: float) -> Tensor:
    return mixture().x0(x, 1.0, sigma)


def phi_by_quadrature(order: int, h: float) -> float:
    return quad(lambda u: math.exp(-(1 - u) * h) * u ** (order - 1) / math.factorial(order - 1), 0, 1)[0]


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("h", [-1.5, 1e-4, 0.1, 2.0, 12.0])
def test_phi_is_its_integral(order: int, h: float) -> None:
    assert phi(order, h) == pytest.approx(phi_by_quadrature(order, h), rel=1e-9)


def test_res_3m_has_the_exact_weights_of_three_steps() -> None:
    """On equal steps of h = 0.1, c2 = -1 and c3 = -2."""
    sigma = [math.exp(-0.1 * k) for k in range(6)]
    grid = Grid.from_t(EDM(), sigma)
    weights = np.array(make_solver("res_3m", grid).updates[-1].weights) / 0.1  # type: ignore[attr-defined]
    np.testing.assert_allclose(weights, (1.8398, -1.2926, 0.4045), atol=5e-5)


@pytest.mark.parametrize(("name", "terms"), [("res_2m", 2), ("res_3m", 3)])
def test_res_multistep_meets_the_order_conditions_on_uneven_steps(name: str, terms: int) -> None:
    grid = Grid.from_t(EDM(), LEVELS[:-1])
    solver = make_solver(name, grid)
    for step in range(terms, grid.n_steps):
        points = grid.points[step + 1 - terms : step + 2]
        h = points[-1].log_snr - points[-2].log_snr
        at = [(point.log_snr - points[-2].log_snr) / h for point in points[-2::-1]]
        weights = [w for w in solver.updates[step + (name == "res_3m")].weights if w]  # type: ignore[attr-defined]
        for power in range(terms):
            found = sum(w / h * c**power for w, c in zip(weights, at, strict=True))
            assert found == pytest.approx(math.factorial(power) * phi_by_quadrature(power + 1, h), rel=1e-8)


def res_2s(x: Tensor, s: float, t: float) -> Tensor:
    h, p = math.log(s / t), phi_by_quadrature
    first = denoise(x, s)
    middle = math.exp(-h / 2) * x + h / 2 * p(1, h / 2) * first
    late = p(2, h) / 0.5
    return math.exp(-h) * x + h * ((p(1, h) - late) * first + late * denoise(middle, s * math.exp(-h / 2)))


def res_3s(x: Tensor, s: float, t: float) -> Tensor:
    h, p, gamma = math.log(s / t), phi_by_quadrature, 4.0
    first = denoise(x, s)
    second = denoise(math.exp(-h / 2) * x + h / 2 * p(1, h / 2) * first, s * math.exp(-h / 2))
    a32 = gamma * 0.5 * p(2, h / 2) + p(2, h) / 0.5
    third = denoise(math.exp(-h) * x + h * ((p(1, h) - a32) * first + a32 * second), t)
    b3 = p(2, h) / (gamma * 0.5 + 1)
    b2 = gamma * b3
    return math.exp(-h) * x + h * ((p(1, h) - b2 - b3) * first + b2 * second + b3 * third)


def seeds_3(x: Tensor, s: float, t: float) -> Tensor:
    h, p = math.log(s / t), phi_by_quadrature
    first = denoise(x, s)
    second = denoise(math.exp(-h / 3) * x + (1 - math.exp(-h / 3)) * first, s * math.exp(-h / 3))
    z = 2 * h / 3
    third = math.exp(-z) * x + (1 - math.exp(-z)) * first + 2 * z * p(2, z) * (second - first)
    slope = h * p(2, h) / (2 / 3) * (denoise(third, s * math.exp(-z)) - first)
    return math.exp(-h) * x + (1 - math.exp(-h)) * first + slope


@pytest.mark.parametrize(("method", "step"), [("res_2s", res_2s), ("res_3s", res_3s), ("seeds_3", seeds_3)])
def test_single_step_methods_are_the_published_ones(method: str, step: Callable[..., Tensor]) -> None:
    x = LEVELS[0] * unit_noise(4)
    for start, end in zip(LEVELS, LEVELS[1:-1], strict=False):
        x = step(x, start, end)
    solver = ExponentialRungeKutta(levels_grid(), method=method)
    found = final_x(solver, lambda state, at: denoise(state, solver.nodes[at].sigma), unit_noise(4))
    torch.testing.assert_close(found, denoise(x, LEVELS[-2]), rtol=1e-9, atol=1e-9)


class Single:
    """Noise of ones at one draw, and none at the others."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return torch.full_like(like, float(index == self.index))


@pytest.mark.parametrize(("method", "places"), [("seeds_2", (1 / 2, 1.0)), ("seeds_3", (1 / 3, 2 / 3, 1.0))])
@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_seeds_carry_the_noise_of_their_stages(method: str, places: tuple[float, ...], eta: float) -> None:
    """With x0 = 0 a stage's noise arrives as that of the reverse SDE; together it has variance 1 - e^(-2 eta h)."""
    grid = Grid.from_t(EDM(), [3.0, 1.2])
    h, total, begin = math.log(3.0 / 1.2), 0.0, 0.0
    for draw, end in enumerate(places, start=1):
        solver = ExponentialRungeKutta(grid, method=method, eta=eta, noise=Single(draw))
        state = State(torch.zeros(1, 1, dtype=torch.float64))
        while state.step < solver.n_evals:
            state = solver.step(state, torch.zeros_like(state.x))
        expected = math.exp((end - 1) * h * eta) * math.sqrt(1 - math.exp(-2 * (end - begin) * h * eta))
        assert float(state.x) == pytest.approx(1.2 * expected, rel=1e-12)
        total, begin = total + float(state.x / 1.2) ** 2, end
    assert total == pytest.approx(1 - math.exp(-2 * eta * h), rel=1e-12)


SCALES: dict[str, Callable[[float], float]] = {
    "er_sde": lambda at: at * (math.exp(at**0.3) + 10),
    "ode": lambda at: at,
    "sde": lambda at: at**2,
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("curvature", ["published", "exact"])
def test_er_sde_is_the_published_formula(scale: str, curvature: str) -> None:
    """The stages of the paper with integrals by scipy; the exact third stage moves the slope to the newest x0."""
    noise_scale, x, old, slopes = SCALES[scale], LEVELS[0] * unit_noise(4), [], [0.0]
    for step, (s, t) in enumerate(zip(LEVELS, LEVELS[1:-1], strict=False)):
        now, last, ratio = denoise(x, s), noise_scale(t), noise_scale(t) / noise_scale(s)
        after = ratio * x + (1 - ratio) * now
        if step:
            slope = (now - old[-1]) / (s - LEVELS[step - 1])
            first = quad(lambda at: 1 / noise_scale(at), t, s, epsabs=0, epsrel=1e-11)[0]
            second = quad(lambda at, s=s: (at - s) / noise_scale(at), t, s, epsabs=0, epsrel=1e-11)[0]
            curve = (slope - slopes[-1]) / ((s - LEVELS[step - 2]) / 2) if step > 1 else torch.zeros_like(now)
            slopes.append(slope)
            if curvature == "exact":
                slope = slope + (s - LEVELS[step - 1]) / 2 * curve
            after = after + (t - s + first * last) * slope + ((t - s) ** 2 / 2 + second * last) * curve
        old.append(now)
        x = after
    solver = ERSDE(levels_grid(), scale=scale, curvature=curvature, noise=lambda index, span, like: like * 0)
    found = final_x(solver, lambda state, at: denoise(state, solver.nodes[at].sigma), unit_noise(4))
    torch.testing.assert_close(found, denoise(x, LEVELS[-2]), rtol=1e-8, atol=1e-8)


def test_er_sde_adds_the_published_noise() -> None:
    grid, noise_scale = Grid.from_t(EDM(), [3.0, 1.2, 0.0]), SCALES["er_sde"]
    update = ERSDE(grid).updates[0]
    assert update.noise == pytest.approx(math.sqrt(1.2**2 - 9 * (noise_scale(1.2) / noise_scale(3.0)) ** 2), rel=1e-12)
    assert ERSDE(grid, scale="ode").updates[0].noise == 0


@pytest.mark.parametrize(("curvature", "order"), [("exact", 3), ("published", 2)])
def test_er_sde_without_noise_has_its_order(curvature: str, order: int) -> None:
    grids = {name: GRIDS[name] for name in ("vp-uniform", "edm-karras", "flow-shifted")}
    factory = lambda grid: ERSDE(grid, scale="ode", curvature=curvature)  # noqa: E731
    steps = (192, 384, 768) if order == 3 else None
    check_solver(
        factory, grids=grids, warm_up=2, order=order, steps=steps, laws=["order", "jagged order", "trajectory"]
    )


def test_gradient_estimation_is_the_published_formula() -> None:
    x, before = LEVELS[0] * unit_noise(4), None
    for s, t in zip(LEVELS, LEVELS[1:-1], strict=False):
        slope = (x - denoise(x, s)) / s
        x = x + (t - s) * (slope if before is None else 2.0 * slope - before)
        before = slope
    solver = make_solver("gradient_estimation", levels_grid())
    found = final_x(solver, lambda state, at: denoise(state, solver.nodes[at].sigma), unit_noise(4))
    torch.testing.assert_close(found, denoise(x, LEVELS[-2]), rtol=1e-10, atol=1e-10)


def test_heunpp2_is_the_published_formula() -> None:
    def slope(x: Tensor, sigma: float) -> Tensor:
        return (x - denoise(x, sigma)) / sigma

    x = LEVELS[0] * unit_noise(4)
    for i in range(len(LEVELS) - 2):
        s, t, after = LEVELS[i], LEVELS[i + 1], LEVELS[i + 2]
        first = slope(x, s)
        reached = x + (t - s) * first
        second = slope(reached, t)
        if after == 0:
            share = t / (2 * LEVELS[0])
            mean = (1 - share) * first + share * second
        else:
            third = slope(reached + (after - t) * second, after)
            shares = t / (3 * LEVELS[0]), after / (3 * LEVELS[0])
            mean = (1 - sum(shares)) * first + shares[0] * second + shares[1] * third
        x = x + (t - s) * mean
    solver = make_solver("heunpp2", levels_grid())
    found = final_x(solver, lambda state, at: denoise(state, solver.nodes[at].sigma), unit_noise(4))
    torch.testing.assert_close(found, denoise(x, LEVELS[-2]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["er_sde", "seeds_2", "seeds_3"])
def test_stochastic_samplers_need_a_noise_source(name: str) -> None:
    assert draws_noise(name)
    solver = make_solver(name, clean(GRIDS["vp-karras"](4)))
    with pytest.raises(ValueError, match="draws noise: construct it with noise=SeededNoise"):
        solver.step(solver.start(unit_noise(2)), unit_noise(2))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("er_sde", {"solver_order": 4}, "orders 1, 2 and 3, got solver_order=4"),
        ("er_sde", {"scale": "vp"}, "unknown ERSDE.scale 'vp'; known are er_sde, ode, sde"),
        ("er_sde", {"curvature": "none"}, "unknown ERSDE.curvature 'none'; known are exact, published"),
        ("res_2s", {"method": "res_4s"}, "unknown exponential Runge-Kutta method 'res_4s'; known are res_2s"),
        ("seeds_2", {"eta": -1.0}, "ExponentialRungeKutta.eta must be 0 or more and finite, got -1.0"),
        ("gradient_estimation", {"gamma": 0.5}, "gamma must be 1 or more and finite, got 0.5"),
    ],
)
def test_settings_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_solver(name, GRIDS["vp-karras"](4), **options)
