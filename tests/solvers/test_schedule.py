"""Schedules, grids, prediction types and velocity: derivatives, inverses, round trips, rejected values."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sadaflow.solvers import (
    EDM,
    PREDICTIONS,
    Grid,
    RectifiedFlow,
    Schedule,
    VPDiscrete,
    from_x0,
    make_betas,
    make_solver,
    to_x0,
    zero_terminal_snr,
)
from sadaflow.solvers.checks.problems import GRIDS, mixture, stable_diffusion
from sadaflow.solvers.reference import reference_solution
from sadaflow.solvers.spacing import RAMPS, SPACINGS, dynamic_mu, ramp, shift_time, spaced_timesteps

SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "vp": stable_diffusion,
    "cosine": lambda: VPDiscrete(torch.cumprod(1 - make_betas("squaredcos_cap_v2"), 0)),
    "flow": RectifiedFlow,
    "edm": EDM,
}
profile = settings(derandomize=True, deadline=None, max_examples=25)


def times(schedule: Schedule, count: int = 200) -> torch.Tensor:
    """Times off the table's entries, where the derivative of a discrete schedule is continuous."""
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(count, generator=generator, dtype=torch.float64)
    t = schedule.t_min + (schedule.t_max - schedule.t_min) * (0.001 + 0.998 * share)
    return t.floor() + 0.3 if isinstance(schedule, VPDiscrete) else t


@pytest.mark.parametrize("name", SCHEDULES)
def test_derivatives_are_central_differences(name: str) -> None:
    schedule = SCHEDULES[name]()
    t, h = times(schedule), 1e-6 * (schedule.t_max - schedule.t_min)
    for value, slope in [(schedule.alpha, schedule.d_alpha), (schedule.sigma, schedule.d_sigma)]:
        difference = (value(t + h) - value(t - h)) / (2 * h)
        torch.testing.assert_close(slope(t), difference, rtol=1e-5, atol=1e-9)


def test_derivative_at_a_table_entry_is_the_mean_of_both_sides() -> None:
    schedule, entry, h = stable_diffusion(), 500.0, 1e-4
    for value, slope in [(schedule.alpha, schedule.d_alpha), (schedule.sigma, schedule.d_sigma)]:
        sides = [(value(entry + h) - value(entry)) / h, (value(entry) - value(entry - h)) / h]
        assert float(slope(entry)) == pytest.approx(float(sum(sides)) / 2, rel=1e-4)
    assert float(schedule.d_sigma(999.0)) == pytest.approx(float(schedule.d_sigma(998.5)), rel=1e-2)


@pytest.mark.parametrize("name", SCHEDULES)
def test_time_is_found_again_from_log_snr(name: str) -> None:
    schedule = SCHEDULES[name]()
    t = times(schedule)
    log_snr = schedule.alpha(t).log() - schedule.sigma(t).log()
    torch.testing.assert_close(schedule.t_from_log_snr(log_snr), t, rtol=1e-9, atol=1e-9)
    assert float(schedule.t_from_log_snr(float("inf"))) == schedule.t_min


@pytest.mark.parametrize("name", SCHEDULES)
def test_noise_rises_with_time(name: str) -> None:
    schedule = SCHEDULES[name]()
    t = times(schedule).unique()
    assert bool((((schedule.sigma(t) / schedule.alpha(t)).diff()) > 0).all())
    assert float(schedule.sigma(schedule.t_min)) == 0 and float(schedule.alpha(schedule.t_min)) == 1


def test_table_entries_are_met_exactly() -> None:
    schedule = stable_diffusion()
    t = torch.arange(1000, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(t) ** 2, schedule.alphas_cumprod, rtol=1e-13, atol=0)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))


def test_zero_terminal_snr_keeps_the_first_entry_and_ends_at_zero() -> None:
    betas = make_betas("scaled_linear", 1000, 0.00085, 0.012)
    table = torch.cumprod(1 - zero_terminal_snr(betas), 0)
    assert float(table[0]) == pytest.approx(1 - 0.00085, rel=1e-12)
    assert float(table[-1]) == 0
    # The root of the table is an affine map of the old one's.
    old = torch.cumprod(1 - betas, 0).sqrt()
    assert torch.allclose(table.sqrt().diff() / old.diff(), (table.sqrt().diff() / old.diff())[:1], rtol=1e-9)


@profile
@given(
    kind=st.sampled_from(PREDICTIONS),
    angle=st.floats(0.01, 1.56),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_predictions_round_trip(kind: str, angle: float, shape: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, x0 = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    alpha, sigma = float(np.cos(angle)), float(np.sin(angle))
    output = from_x0(kind, x0, x, alpha, sigma)
    torch.testing.assert_close(to_x0(kind, output, x, alpha, sigma), x0, rtol=1e-9, atol=1e-9)


def test_predictions_are_what_their_names_say() -> None:
    x0, eps = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha, sigma = 0.6, 0.8
    x = alpha * x0 + sigma * eps
    expected = {"epsilon": eps, "v_prediction": alpha * eps - sigma * x0, "sample": x0, "flow_prediction": eps - x0}
    for kind in PREDICTIONS:
        torch.testing.assert_close(from_x0(kind, x0, x, alpha, sigma), expected[kind])


def test_predictions_refused() -> None:
    x = torch.zeros(1)
    with pytest.raises(ValueError, match="epsilon, v_prediction, sample, flow_prediction"):
        to_x0("score", x, x, 0.6, 0.8)
    with pytest.raises(ValueError, match="variance-preserving"):
        to_x0("v_prediction", x, x, 1.0, 5.0)
    with pytest.raises(ValueError, match="alpha = 0"):
        to_x0("epsilon", x, x, 0.0, 1.0)


@pytest.mark.parametrize("family", GRIDS)
def test_velocity_is_the_slope_of_the_true_trajectory(family: str) -> None:
    """Against finite differences of a DOP853 solution, taken between table entries."""
    schedule, data = GRIDS[family](10).schedule, mixture()
    t = 400.4 if isinstance(schedule, VPDiscrete) else 0.6
    h = 1e-4 * t
    around = Grid.from_t(schedule, [t + h, t, t - h])
    middle = torch.randn(5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    backward = Grid.from_t(schedule, [t, t - h])
    after = reference_solution(data.x0, backward, middle)
    # The same ODE run towards noise, by integrating the reversed grid.
    before = reference_solution(data.x0, _reversed(schedule, t, t + h), middle)
    solver = make_solver("euler", around)
    x0 = data.x0(middle, solver.nodes[1].alpha, solver.nodes[1].sigma)
    torch.testing.assert_close(solver.velocity(middle, x0, 1), (before - after) / (2 * h), rtol=1e-6, atol=1e-8)


class _Ends:
    """Two points of a schedule in any order, for the reference integration."""

    def __init__(self, alpha: torch.Tensor, sigma: torch.Tensor) -> None:
        self.alpha, self.sigma = alpha, sigma


def _reversed(schedule: Schedule, start: float, end: float) -> Grid:
    t = torch.tensor([start, end], dtype=torch.float64)
    return _Ends(schedule.alpha(t), schedule.sigma(t))  # type: ignore[return-value]


@profile
@given(spacing=st.sampled_from(SPACINGS), steps=st.integers(1, 200), offset=st.integers(0, 1))
def test_spaced_timesteps(spacing: str, steps: int, offset: int) -> None:
    t = spaced_timesteps(spacing, steps, 1000, offset)
    assert len(t) == steps and (np.diff(t) < 0).all() and t[0] <= 1000 - 1 + offset and t[-1] >= 0


def test_spacings_by_hand() -> None:
    assert spaced_timesteps("leading", 8, 1000, 1).tolist() == [876, 751, 626, 501, 376, 251, 126, 1]
    assert spaced_timesteps("trailing", 4, 1000).tolist() == [999, 749, 499, 249]
    assert spaced_timesteps("linspace", 3, 1000).tolist() == [999, 499.5, 0]


@profile
@given(rule=st.sampled_from(RAMPS), n=st.integers(2, 100), high=st.floats(1, 100), low=st.floats(0.001, 0.5))
def test_ramps_fall_from_end_to_end(rule: str, n: int, high: float, low: float) -> None:
    levels = ramp(rule, high, low, n)
    assert (np.diff(levels) < 0).all()
    assert levels[0] == pytest.approx(high, rel=1e-12) and levels[-1] == pytest.approx(low, rel=1e-9)


def test_flow_shift() -> None:
    t = np.linspace(1, 0, 11)
    assert shift_time(t, 1.0) == pytest.approx(t)
    assert shift_time(t, 3.0)[5] == pytest.approx(0.75)
    # Flux's form with mu is the same shift with exp(mu).
    mu, inner = 0.8, t[1:-1]
    assert shift_time(inner, np.exp(mu)) == pytest.approx(np.exp(mu) / (np.exp(mu) + 1 / inner - 1))
    assert dynamic_mu(256) == pytest.approx(0.5) and dynamic_mu(4096) == pytest.approx(1.15)
    assert dynamic_mu(16) < 0.5


@pytest.mark.parametrize(
    ("t", "message"),
    [
        ([1.0], "two points"),
        ([0.5, 0.6, 0.55], "fall strictly"),
        ([0.5, 0.0, -0.1], "above 0"),
        ([1.0, np.nan], "finite"),
    ],
)
def test_grids_refused(t: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid.from_t(RectifiedFlow(), t)


def test_tables_refused() -> None:
    for table in ([0.5], [0.5, 0.6], [1.0, 0.5], [0.5, 0.0]):
        with pytest.raises(ValueError, match="alphas_cumprod"):
            VPDiscrete(torch.tensor(table))
    with pytest.raises(ValueError, match="linear, scaled_linear, squaredcos_cap_v2, sigmoid, exp, laplace"):
        make_betas("cubic")
