"""Laws that hold for any valid schedule, grid, solver and shape."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sadaflow.solvers import (
    EDM,
    SOLVERS,
    Grid,
    RectifiedFlow,
    Schedule,
    SeededNoise,
    State,
    VPDiscrete,
    draws_noise,
    make_betas,
    make_solver,
)
from sadaflow.solvers.betas import BETA_SCHEDULES
from sadaflow.solvers.checks.problems import GRIDS, clean, final_x, mixture, unit_noise

profile = settings(derandomize=True, deadline=None, max_examples=40)
DETERMINISTIC = [name for name in SOLVERS if not draws_noise(name)]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    kind = draw(st.sampled_from(["vp", "edm", "flow"]))
    if kind == "edm":
        return EDM(sigma_min=draw(st.floats(1e-3, 0.05)), sigma_max=draw(st.floats(1.0, 100.0)))
    if kind == "flow":
        return RectifiedFlow()
    start = draw(st.floats(1e-4, 1e-3))
    betas = make_betas(draw(st.sampled_from(sorted(BETA_SCHEDULES))), draw(st.integers(50, 1000)), start, 0.02)
    return VPDiscrete(torch.cumprod(1 - betas, 0))


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Any falling times of any schedule, from anywhere above the middle, most of them to clean data."""
    schedule = draw(schedules())
    steps = draw(st.integers(1, 12))
    gaps = np.array(draw(st.lists(st.floats(0.05, 1.0), min_size=steps, max_size=steps)))
    share = 1 - np.cumsum(gaps) / gaps.sum()
    top = draw(st.floats(0.5, 1.0))
    low = draw(st.sampled_from([0.0, 0.0, 0.02]))
    t = np.concatenate([[1.0], share])
    t[-1] = 0.0
    span = schedule.t_max - schedule.t_min
    return Grid.from_t(schedule, schedule.t_min + span * (low + (top - low) * t))


@profile
@given(grid=grids())
def test_log_snr_rises(grid: Grid) -> None:
    assert bool((grid.log_snr.diff() > 0).all())
    assert bool((grid.alpha >= 0).all()) and bool((grid.sigma >= 0).all())
    assert len(grid.nodes) == grid.n_steps == len(grid.points) - 1


@profile
@given(
    grid=grids(),
    name=st.sampled_from(sorted(SOLVERS)),
    shape=st.lists(st.integers(1, 3), min_size=0, max_size=3),
    seed=st.integers(0, 99),
)
def test_states_are_finite(grid: Grid, name: str, shape: list[int], seed: int) -> None:
    """With answers bounded by 1 no state grows, whatever solver, grid and shape."""
    solver = make_solver(name, grid, **({"noise": SeededNoise((1, 2))} if draws_noise(name) else {}))
    generator = torch.Generator().manual_seed(seed)
    state = solver.start(torch.randn(2, *shape, generator=generator, dtype=torch.float64))
    while state.step < solver.n_evals:
        node = solver.nodes[state.step]
        x0 = (state.x / (node.alpha + node.sigma)).tanh()
        y = solver.velocity(state.x, x0, state.step)
        state = solver.step(state, x0)
        assert state.x.shape == y.shape == (2, *shape)
        assert bool(torch.isfinite(state.x).all()) and bool(torch.isfinite(y).all())
    assert state.step == solver.n_evals


@profile
@given(grid=grids(), name=st.sampled_from(DETERMINISTIC), scale=st.floats(0.1, 5.0), shift=st.floats(-3.0, 3.0))
def test_solvers_are_affine(grid: Grid, name: str, scale: float, shift: float) -> None:
    """Data moved to scale x0 + shift move every x to scale x + alpha shift: steps are linear and keep constants."""
    solver = make_solver(name, grid)
    generator = torch.Generator().manual_seed(0)
    answers = torch.randn(solver.n_evals, 2, 3, generator=generator, dtype=torch.float64)
    start = torch.randn(2, 3, generator=generator, dtype=torch.float64)

    def run(x: Tensor, move: bool) -> Tensor:
        state = State(x)
        while state.step < solver.n_evals:
            x0 = answers[state.step]
            state = solver.step(state, scale * x0 + shift if move else x0)
        return state.x

    plain = run(start, False)
    moved = run(scale * start + grid.points[0].alpha * shift, True)
    expected = scale * plain + grid.points[-1].alpha * shift
    bound = 1e-8 * (1 + float(plain.abs().max()) * scale + abs(shift))
    assert float((moved - expected).abs().max()) < bound


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_constant_answers_are_reached_exactly(name: str) -> None:
    """Where x0 never changes every method is exact, on every grid: x stays alpha x0 + sigma eps with the same eps."""
    for family in GRIDS:
        for grid in (GRIDS[family](7), clean(GRIDS[family](7))):
            solver, first, last = make_solver(name, grid), grid.points[0], grid.points[-1]
            x0, eps = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            state = State(first.alpha * x0 + first.sigma * eps)
            while state.step < solver.n_evals:
                state = solver.step(state, x0)
            torch.testing.assert_close(state.x, last.alpha * x0 + last.sigma * eps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["euler", "heun", "midpoint", "rk4"])
def test_one_step_methods_compose(name: str) -> None:
    """Two half grids, one after the other, are the whole."""
    whole, data = GRIDS["edm-karras"](8), mixture()
    halves = [Grid.from_t(whole.schedule, whole.t[:5]), Grid.from_t(whole.schedule, whole.t[4:])]
    x = unit_noise(4) * whole.start_scale
    for half in halves:
        solver, state = make_solver(name, half), State(x)
        while state.step < solver.n_evals:
            state = solver.step(state, data.denoiser(solver)(state.x, state.step))
        x = state.x
    solver = make_solver(name, whole)
    torch.testing.assert_close(x, final_x(solver, data.denoiser(solver), unit_noise(4)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_steps_can_be_vmapped(name: str) -> None:
    solver, data = make_solver(name, GRIDS["vp-karras"](6)), mixture()
    noise = torch.stack([unit_noise(3, seed) for seed in range(2)])

    def run(one: Tensor) -> Tensor:
        return final_x(solver, data.denoiser(solver), one)

    torch.testing.assert_close(torch.func.vmap(run)(noise), torch.stack([run(one) for one in noise]))


def test_states_that_cannot_be_stepped_are_refused() -> None:
    grid, x = GRIDS["vp-karras"](6), unit_noise(2)
    with pytest.raises(ValueError, match="no evaluation 6: DPMpp ends after 6"):
        make_solver("dpmpp2m", grid).step(State(x, 6, (x,)), x)
    with pytest.raises(ValueError, match="DPMpp at evaluation 3 .* 1 past outputs"):
        make_solver("dpmpp2m", grid).step(State(x, 3), x)
    with pytest.raises(ValueError, match="RungeKutta at evaluation 1"):
        make_solver("midpoint", grid).step(State(x, 1, (x,)), x)
