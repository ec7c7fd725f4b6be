"""Rising grids (from data to noise) and parts of grids."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from sadaflow.solvers import (
    EDM,
    SOLVERS,
    Churn,
    Grid,
    RectifiedFlow,
    RungeKutta,
    SeededNoise,
    State,
    draws_noise,
    from_scheduler_config,
    make_solver,
    reference_solution,
)
from sadaflow.solvers.checks.problems import (
    GRIDS,
    clean,
    final_x,
    mixture,
    stable_diffusion,
    tilted_gaussian,
    unit_noise,
)
from sadaflow.solvers.spacing import karras

DETERMINISTIC = [name for name in SOLVERS if not draws_noise(name) and name != "heunpp2"]
RISING: dict[str, Callable[[int], Grid]] = {
    "vp": lambda n: Grid.from_sigma_ve(stable_diffusion(), karras(14.6, 0.1, n + 1)[::-1]),
    "edm": lambda n: Grid.from_t(EDM(), np.linspace(0.5, 5.0, n + 1)),
    "flow to pure noise": lambda n: Grid.from_t(RectifiedFlow(), np.linspace(0.1, 1.0, n + 1)),
}
# Steps into alpha = 0 are infinitely long in log-SNR and first-order there, as those out of it are.
STEPS = (48, 96, 192)


def error(name: str, grid: Grid, start: torch.Tensor, exact: torch.Tensor) -> float:
    solver = make_solver(name, grid)
    return float((final_x(solver, mixture().denoiser(solver), start) - exact).square().mean().sqrt())


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("family", RISING)
def test_inversion_has_the_order_of_the_solver(name: str, family: str) -> None:
    """Against SciPy's DOP853 from data to noise, from points of the data's own distribution."""
    make = RISING[family]
    start = mixture().means[torch.arange(5) % 3] * float(make(2).alpha[0]) + 0.1 * unit_noise(5)
    exact = reference_solution(mixture().x0, make(2), start)
    errors = [error(name, make(n), start, exact) for n in STEPS]
    slope = -np.polyfit(np.log(STEPS), np.log(errors), 1)[0]
    assert slope > min(make_solver(name, make(4)).order, 2) - 0.2 or max(errors) < 1e-8, f"errors {errors}"


@pytest.mark.parametrize(
    ("name", "order"), [("euler", 1), ("dpmpp2m", 2), ("heun", 2), ("ab3", 3), ("res_3s", 3), ("rk4", 4)]
)
@pytest.mark.parametrize("family", ["vp-karras", "flow-uniform"])
def test_the_way_there_and_back_closes_in_the_order_of_the_solver(name: str, order: int, family: str) -> None:
    gaps = []
    for n in STEPS:
        down = GRIDS[family](n)
        up = Grid.from_t(down.schedule, down.t.flip(0))
        first = unit_noise(5) * float(down.sigma[0])
        states = [State(first)]
        for grid in (down, up):
            solver = make_solver(name, grid)
            state = State(states[-1].x)
            while state.step < solver.n_evals:
                state = solver.step(state, mixture().denoiser(solver)(state.x, state.step))
            states.append(state)
        gaps.append(float((states[-1].x - first).square().mean().sqrt()))
    slope = -np.polyfit(np.log(STEPS), np.log(gaps), 1)[0]
    assert slope > order - 0.25, f"differences {gaps}"


@pytest.mark.parametrize("family", RISING)
def test_inversion_of_a_gaussian_in_closed_form(family: str) -> None:
    data, grid = tilted_gaussian(), RISING[family](200)
    first, last = grid.points[0], grid.points[-1]
    start = first.alpha * data.means[0] + first.sigma * unit_noise(6)
    exact = data.transport(start, (first.alpha, first.sigma), (last.alpha, last.sigma))
    torch.testing.assert_close(reference_solution(data.x0, grid, start), exact, rtol=1e-8, atol=1e-8)
    solver = make_solver("heun", grid)
    torch.testing.assert_close(final_x(solver, data.denoiser(solver), start), exact, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", [name for name in SOLVERS if draws_noise(name)])
def test_solvers_that_draw_noise_refuse_rising_grids_by_name(name: str) -> None:
    kind = SOLVERS[name].solver.__name__
    with pytest.raises(ValueError, match=f"{kind} cannot follow a rising grid, from data to noise: it draws noise"):
        make_solver(name, RISING["edm"](6), noise=SeededNoise((1, 2)))


def test_methods_whose_formula_goes_one_way_refuse_rising_grids() -> None:
    with pytest.raises(ValueError, match="HeunPP2 cannot follow a rising grid.*relative to the first; use a determ"):
        make_solver("heunpp2", RISING["edm"](6))
    with pytest.raises(ValueError, match="RungeKutta cannot follow a rising grid"):
        RungeKutta(RISING["edm"](6), churn=Churn(10.0))


def test_a_rising_grid_starts_from_the_state_itself() -> None:
    grid = RISING["vp"](6)
    assert grid.rises and grid.start_scale == 1 and grid.noisiest == grid.points[-1]
    assert not GRIDS["vp-karras"](6).rises and GRIDS["vp-karras"](6).noisiest.t > 900


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.5, 0.7, 0.6], "fall strictly .or rise strictly"),
        ([0.5, 0.5], "fall strictly"),
        ([0.0, 0.5, 1.0], "must begin above clean data, where eps is defined, got t = 0 with sigma = 0"),
    ],
)
def test_times_that_are_no_grid_are_refused(times: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid.from_t(RectifiedFlow(), times)


@pytest.mark.parametrize("name", ["euler", "dpmpp2m", "unipc", "heun", "lms"])
def test_a_part_continues_one_step_methods_and_begins_others_afresh(name: str) -> None:
    whole = clean(GRIDS["vp-karras"](20))
    part, solver = whole.part(8), make_solver(name, whole)
    state, data = solver.start(unit_noise(3)), mixture()
    while state.step < (16 if name == "heun" else 8):
        state = solver.step(state, data.denoiser(solver)(state.x, state.step))
    rest = make_solver(name, part)
    found = final_x(rest, data.denoiser(rest), state.x)
    while state.step < solver.n_evals:
        state = solver.step(state, data.denoiser(solver)(state.x, state.step))
    apart = float((found - state.x).abs().max())
    assert apart == 0 if name in ("euler", "heun") else 0 < apart < 0.05
    assert part.n_steps == 12 and part.run_steps == 20 and part.start_scale == 1
    assert torch.equal(part.timestep, whole.timestep[8:])


def test_parts_keep_points_timesteps_and_rules() -> None:
    whole = Grid.from_t(EDM(), [5.0, 3.0, 2.0, 1.0], [5.0, 3.0, 2.0], between=lambda t: t)
    assert whole.part(0).start_scale == whole.start_scale
    middle = whole.part(1, 3)
    assert middle.t.tolist() == [3.0, 2.0, 1.0] and middle.timestep.tolist() == [3.0, 2.0]
    assert middle.node(middle.points[1]).timestep == 2.0
    assert middle.part(1).run_steps == 3 and middle.part(1, start_scale=math.pi).start_scale == math.pi
    for wrong in ((3, None), (-1, None), (2, 2), (0, 4)):
        with pytest.raises(ValueError, match=r"part\(.*of a grid of 3 steps: first and last must satisfy"):
            whole.part(*wrong)


def test_rules_for_few_steps_go_by_the_whole_run() -> None:
    """As in Diffusers, where a cut run of 20 steps keeps order 3 in the last but one of its 10 steps."""
    whole = clean(GRIDS["vp-karras"](20))
    cut, short = make_solver("dpmpp3m", whole.part(10)), make_solver("dpmpp3m", clean(GRIDS["vp-karras"](10)))
    assert [len(update.weights) for update in cut.updates] == [1, 2, *[3] * 7, 1]  # type: ignore[attr-defined]
    assert [len(update.weights) for update in short.updates] == [1, 2, *[3] * 6, 2, 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", [{"sigmas": [0.1, 1.0, 5.0]}, {"timesteps": [100.0, 500.0]}])
def test_a_users_own_points_in_the_wrong_order_are_not_taken_for_an_inversion(given: dict[str, list[float]]) -> None:
    config = {"_class_name": "EulerDiscreteScheduler"}
    with pytest.raises(ValueError, match="must fall from noise to data, got"):
        from_scheduler_config(config, 2, **given)  # type: ignore[arg-type]
