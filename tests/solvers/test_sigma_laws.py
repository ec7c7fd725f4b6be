"""Laws of the sigma-space samplers beyond parity: orders, shared results, starts from pure noise, rejected values."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from sadaflow.solvers import (
    EDM,
    AdamsBashforth,
    BrownianNoise,
    CosineVP,
    DPMppSDE,
    DPMppSinglestep,
    Grid,
    GridSolver,
    NoiseSource,
    RectifiedFlow,
    SASolver,
    SeededNoise,
    from_scheduler_config,
    make_solver,
)
from sadaflow.solvers.checks import examine_solver
from sadaflow.solvers.checks.distribution import distribution_laws
from sadaflow.solvers.checks.problems import GRIDS, clean, final_x, mixture, unit_noise
from sadaflow.solvers.spacing import shift_time

UNEVEN = {name: GRIDS[name] for name in ("vp-karras", "edm-karras", "flow-shifted")}


def sa_solver(grid: Grid, predictor: int, corrector: int, tau: float = 0.0, **options: Any) -> SASolver:
    how = {"lower_order_final": False, "predictor_order": predictor, "corrector_order": corrector, **options}
    return SASolver(grid, tau=tau, **how)


@pytest.mark.parametrize(
    ("make", "warm_up", "steps"),
    [
        (lambda grid: DPMppSDE(grid, eta=0.0), 0, None),
        (lambda grid: SASolver(grid, tau=0.0), 1, None),
        (lambda grid: sa_solver(grid, 2, 3), 2, (96, 192, 384)),
        (lambda grid: sa_solver(grid, 3, 4), 3, (96, 192, 384)),
        (lambda grid: sa_solver(grid, 1, 1), 0, None),
        (lambda grid: sa_solver(grid, 2, 2, correct_end=True), 1, (192, 384, 768)),
    ],
    ids=["dpmpp-sde", "sa-2-2", "sa-2-3", "sa-3-4", "sa-1-1", "sa-corrected-end"],
)
def test_orders_without_noise_on_uneven_grids(
    make: Callable[[Grid], GridSolver], warm_up: int, steps: tuple[int, ...] | None
) -> None:
    report = examine_solver(make, warm_up=warm_up, grids=UNEVEN, steps=steps)
    assert report.passed, str(report)


@pytest.mark.parametrize("orders", [(1, 1), (3, 4)])
def test_sa_solver_reaches_the_distribution(orders: tuple[int, int]) -> None:
    report = examine_solver(
        lambda grid, noise: sa_solver(grid, *orders, tau=0.7, span=(-math.inf, math.inf), noise=noise),
        stochastic=True,
        grids={"vp-karras": GRIDS["vp-karras"]},
        drift_order=1.0 if orders == (1, 1) else None,
    )
    assert report.passed, str(report)


def pure_noise(n: int) -> Grid:
    return Grid.from_t(RectifiedFlow(), shift_time(np.linspace(1, 0.1, n + 1), 2.0))


@pytest.mark.parametrize("name", ["kdpm2-ancestral", "dpmpp-sde", "sa-solver"])
def test_the_distribution_from_pure_noise(name: str) -> None:
    def made(grid: Grid, noise: NoiseSource) -> GridSolver:
        return make_solver(name, grid, noise=noise)

    for law in distribution_laws(made, {"pure-noise": pure_noise}):
        assert law.passed, law


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_dpmpp_sde_is_2s_on_the_grid_with_its_middles(eta: float) -> None:
    """Its groups of two are a step to the middle and the step itself; the last step to clean data is alone in both."""
    for grid in (clean(GRIDS["vp-karras"](6)), GRIDS["edm-karras"](6)):
        noise = SeededNoise((3,) * 5)
        solver = DPMppSDE(grid, eta=eta, noise=noise)
        refined = Grid.from_t(grid.schedule, [*(node.t for node in solver.nodes), grid.points[-1].t])
        pairs = DPMppSinglestep(refined, eta=eta, noise=noise)
        assert [node.timestep for node in solver.nodes] == pytest.approx([node.timestep for node in pairs.nodes])
        denoise = mixture().denoiser(solver)
        torch.testing.assert_close(final_x(solver, denoise, unit_noise(5)), final_x(pairs, denoise, unit_noise(5)))


def test_lms_weights_are_the_integrals_of_lagrange_polynomials() -> None:
    grid = clean(GRIDS["edm-karras"](6))
    solver = make_solver("lms", grid)
    sigma = [point.sigma for point in grid.points]
    for step in range(6):
        used = sigma[max(step - 3, 0) : step + 1][::-1]

        def basis(at: float, j: int, used: list[float] = used) -> float:
            return math.prod((at - other) / (used[j] - other) for k, other in enumerate(used) if k != j)

        expected = [quad(basis, used[0], sigma[step + 1], (j,), epsabs=1e-13)[0] for j in range(len(used))]
        update = solver.updates[step]  # type: ignore[attr-defined]
        # The newest slope is written out as (x - x0) / sigma.
        assert [-update.weights[0] * used[0], *update.weights[1:]] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_ipndm_v_is_lms_up_to_the_step_to_clean_data() -> None:
    for grid in (clean(GRIDS["vp-karras"](7)), clean(GRIDS["flow-shifted"](7))):
        lms, ipndm_v = make_solver("lms", grid), make_solver("ipndm-v", grid)
        assert lms.updates[:-1] == ipndm_v.updates[:-1]  # type: ignore[attr-defined]
        assert ipndm_v.updates[-1].weights == (grid.points[-1].alpha,)  # type: ignore[attr-defined]


def test_ipndm_has_the_weights_of_even_steps() -> None:
    """On even steps of sigma they are those of LMS; on uneven steps they still sum to the step."""
    even = Grid.from_t(EDM(), np.linspace(5, 0.5, 9))
    data = mixture()
    ipndm, lms = make_solver("ipndm", even), make_solver("lms", even)
    x = final_x(ipndm, data.denoiser(ipndm), unit_noise(4))
    torch.testing.assert_close(x, final_x(lms, data.denoiser(lms), unit_noise(4)))
    for grid in (GRIDS["edm-karras"](8), GRIDS["flow-shifted"](8)):
        solver = make_solver("ipndm", grid)
        point = torch.full((2, 2), 0.7, dtype=torch.float64)
        end, start = grid.points[-1], grid.points[0]
        reached = final_x(solver, lambda x, step, point=point: point, unit_noise(2))
        eps = (unit_noise(2) * grid.start_scale - start.alpha * point) / start.sigma
        torch.testing.assert_close(reached, end.alpha * point + end.sigma * eps)


def test_where_sa_solver_adds_noise() -> None:
    """By default between timesteps 200 and 800 of a table; everywhere on EDM's schedule; elsewhere by `span`."""
    table = from_scheduler_config({"_class_name": "SASolverScheduler"}, 10).solver
    drawn = [200 <= node.timestep <= 800 for node in table.nodes]
    assert [update.noise > 0 for update in table.updates] == drawn  # type: ignore[attr-defined]
    assert all(update.noise > 0 for update in SASolver(GRIDS["edm-karras"](6)).updates)
    inside = SASolver(GRIDS["flow-uniform"](6), span=(400, 700))
    drawn = [400 <= node.timestep <= 700 for node in inside.nodes]
    assert any(drawn) and [update.noise > 0 for update in inside.updates] == drawn


def test_a_brownian_path_serves_both_stages() -> None:
    """The draws of the middle and of the step begin at one point: their correlation is that of one path."""
    grid = GRIDS["flow-uniform"](3)
    solver = DPMppSDE(grid)
    like = torch.zeros(8, 2000, dtype=torch.float64)
    noise = BrownianNoise(tuple(range(8)), depth=12)
    first, second = (noise(step + 1, solver.updates[step].span, like) for step in (0, 1))
    lengths = [solver.updates[step].span[0] - solver.updates[step].span[1] for step in (0, 1)]
    correlation = float((first * second).mean())
    assert correlation == pytest.approx(math.sqrt(lengths[0] / lengths[1]), abs=0.05)


def test_cosine_schedule() -> None:
    schedule = CosineVP()
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))
    assert float(schedule.alpha(1.0)) == 0 and float(schedule.sigma(0.0)) == 0
    inner, h = t[1:-1], 1e-6
    for value, rate in ((schedule.alpha, schedule.d_alpha), (schedule.sigma, schedule.d_sigma)):
        torch.testing.assert_close(rate(inner), (value(inner + h) - value(inner - h)) / (2 * h), rtol=1e-8, atol=1e-8)
    log_snr = (schedule.alpha(inner) / schedule.sigma(inner)).log()
    torch.testing.assert_close(schedule.t_from_log_snr(log_snr), inner)
    torch.testing.assert_close(schedule.timestep(t), t)


def test_ipndm_from_pure_noise_keeps_the_first_output() -> None:
    """Diffusers' first step takes x0 for 0; the first-order step from alpha = 0 has x' = alpha' x0 + sigma' x."""
    setup = from_scheduler_config({"_class_name": "IPNDMScheduler"}, 8)
    assert setup.prediction == "v_prediction" and setup.grid.points[0].alpha == 0
    state = setup.solver.start(unit_noise(2))
    x0 = torch.full_like(state.x, 0.5)
    after, second = setup.solver.step(state, x0).x, setup.grid.points[1]
    torch.testing.assert_close(after, second.alpha * x0 + second.sigma * state.x)
    given = from_scheduler_config({"_class_name": "IPNDMScheduler"}, 2, timesteps=[1.0, 0.5]).grid
    assert given.t.tolist() == [1.0, 0.5, 0.0]
    assert isinstance(from_scheduler_config({"_class_name": "IPNDMScheduler"}, 8, "euler").schedule, CosineVP)


def test_named_solvers_take_their_class() -> None:
    """On a table whose config writes out nothing, each has the defaults and the told timesteps of its own class."""
    config: dict[str, Any] = {"_class_name": "DDIMScheduler", "clip_sample": False}
    for name, cls in (("kdpm2", "KDPM2DiscreteScheduler"), ("lms", "LMSDiscreteScheduler"), ("sa-solver", "SASolver")):
        cls += "" if cls.endswith("Scheduler") else "Scheduler"
        own, named = from_scheduler_config({"_class_name": cls}, 9), from_scheduler_config(config, 9, solver=name)
        assert [node.timestep for node in own.solver.nodes] == [node.timestep for node in named.solver.nodes]
        assert own.grid.sigma.tolist() == named.grid.sigma.tolist()


def test_a_ramp_by_name_is_as_one_in_the_config() -> None:
    """SA-Solver corrects x at the last level of a ramp, wherever the ramp is asked for."""
    config = {"_class_name": "SASolverScheduler"}
    written = from_scheduler_config({**config, "use_karras_sigmas": True}, 9)
    named = from_scheduler_config(config, 9, grid="karras")
    assert written.solver.nodes == named.solver.nodes and written.solver.n_evals == 9 == written.grid.n_steps + 1
    assert from_scheduler_config(config, 9).solver.n_evals == from_scheduler_config(config, 9).grid.n_steps == 9


@pytest.mark.parametrize("name", ["heun", "midpoint", "rk4", "ab4", "exp-ab3", "kdpm2", "dpmpp-sde"])
def test_nodes_between_points_follow_the_rule_of_the_grid(name: str) -> None:
    """A network told sigma gets it between the points too; without a rule a solver that goes there is refused."""
    options: dict[str, Any] = {"eta": 0.0} if name == "dpmpp-sde" else {}
    levels, data = [9.0, 4.0, 2.0, 1.0, 0.4], mixture()
    grid = Grid.from_sigma_ve(EDM(), levels, levels[:-1], between=lambda t: t)
    solver = make_solver(name, grid, **options)

    def told(x: Tensor, step: int) -> Tensor:
        return data.x0(x, 1.0, solver.nodes[step].timestep)

    torch.testing.assert_close(
        final_x(solver, told, unit_noise(3)), final_x(solver, data.denoiser(solver), unit_noise(3))
    )
    with pytest.raises(ValueError, match=r"schedule's own \(9 for 0.549306\): construct the grid with between="):
        assert make_solver(name, Grid.from_sigma_ve(EDM(), levels, levels[:-1]), **options).nodes


def refusing(grid: Grid) -> list[tuple[Callable[[], Any], str]]:
    return [
        (lambda: make_solver("kdpm2", grid, eta=-1.0), "KDPM2.eta"),
        (lambda: make_solver("dpmpp-sde", grid, eta=math.inf), "DPMppSDE.eta"),
        (lambda: make_solver("sa-solver", grid, tau=math.nan), "SASolver.tau"),
        (lambda: make_solver("sa-solver", grid, predictor_order=4), "predictor_order must be 1 to 3"),
        (lambda: make_solver("sa-solver", grid, corrector_order=0), "corrector_order must be 1 to 4"),
        (lambda: make_solver("ipndm", grid, prediction="sample"), "prediction='sample'"),
        (lambda: AdamsBashforth(grid, start_by="guess"), "start_by 'guess'"),
        (lambda: AdamsBashforth(grid, last_by="guess"), "last_by 'guess'"),
        (lambda: from_scheduler_config({"_class_name": "IPNDMScheduler", "trained_betas": [0.1, 0.2]}, 3), "trained_b"),
        (lambda: from_scheduler_config({"_class_name": "SASolverScheduler", "tau_func": 1}, 3), "tau_func=1"),
    ]


def test_refused() -> None:
    for make, message in refusing(GRIDS["vp-karras"](4)):
        with pytest.raises(ValueError, match=message):
            make()


def test_drawing_without_a_source_is_refused_by_name() -> None:
    solver = make_solver("sa-solver", GRIDS["edm-karras"](4))
    with pytest.raises(ValueError, match="SASolver draws noise"):
        final_x(solver, lambda x, step: x, unit_noise(2))


def test_states_are_as_small_as_the_table_says() -> None:
    kept: dict[str, int] = {}
    for name in ("kdpm2", "lms", "ipndm", "sa-solver", "dpmpp-sde"):
        grid = clean(GRIDS["vp-karras"](8))
        solver = make_solver(name, grid, **({"noise": SeededNoise((0,))} if name in ("sa-solver", "dpmpp-sde") else {}))
        state, most = solver.start(torch.zeros(1, 2, dtype=torch.float64)), 0
        while state.step < solver.n_evals:
            state = solver.step(state, torch.zeros_like(state.x))
            most = max(most, len(state.history) + sum(isinstance(part, Tensor) for part in (state.anchor,)))
        kept[name] = most
    assert kept == {"kdpm2": 1, "lms": 3, "ipndm": 3, "sa-solver": 2, "dpmpp-sde": 1}
