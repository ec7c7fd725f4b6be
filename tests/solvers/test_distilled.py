"""Samplers of distilled networks: exact with a perfect network, and the laws that hold with any network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sadaflow.solvers import DDPM, LCM, TCD, EulerAncestral, Grid, NoisySolver, SeededNoise, State, make_solver
from sadaflow.solvers.checks import check_solver, examine_solver
from sadaflow.solvers.checks.problems import (
    GRIDS,
    clean,
    final_x,
    mixture,
    stable_diffusion,
    tilted_gaussian,
    unit_noise,
)
from sadaflow.solvers.linear import first_order
from sadaflow.solvers.spacing import distilled_timesteps

SEEDS = (1, 2, 3, 4, 5)


@dataclass
class Constant:
    """A noise source that gives one number, and remembers for which evaluations it was asked."""

    value: float
    asked: list[int] = field(default_factory=list)

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        self.asked.append(index)
        return torch.full_like(like, self.value)


def four_steps() -> Grid:
    """The published timesteps of four steps, to clean data."""
    told = distilled_timesteps(4)
    return Grid.from_t(stable_diffusion(), [*told, -1.0], told)


def moments(make: Callable[[Constant], NoisySolver], perfect: Callable[[Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and covariance that a solver reaches with a network linear in x, from the exact ones at its first node."""
    data, solver = tilted_gaussian(), make(Constant(0.0))
    loud = make(Constant(1.0))
    first = solver.nodes[0]
    mean = first.alpha * data.means[0]
    covariance = first.alpha**2 * data.covariances[0] + first.sigma**2 * torch.eye(2).double()
    for step in range(solver.n_evals):
        x = mean + torch.cat((torch.zeros(1, 2), torch.eye(2))).double()
        x0 = perfect(x, step)
        moved = solver.step(State(x, step), x0).x
        spread = float((loud.step(State(x, step), x0).x - moved)[0, 0])
        mean, rows = moved[0], moved[1:] - moved[0]
        covariance = rows.T @ covariance @ rows + spread**2 * torch.eye(2).double()
    return mean, covariance


GRIDS_TO_DATA = {"published": four_steps, **{name: lambda name=name: clean(GRIDS[name](5)) for name in GRIDS}}


@pytest.mark.parametrize("name", GRIDS_TO_DATA)
def test_lcm_samples_the_data_with_a_perfect_consistency_model(name: str) -> None:
    """In any number of steps: every step ends on the exact marginal (Song et al. 2023, arXiv 2303.01469)."""
    data, grid = tilted_gaussian(), GRIDS_TO_DATA[name]()

    def consistency(x: Tensor, step: int) -> Tensor:
        node = grid.nodes[step]
        return data.transport(x, (node.alpha, node.sigma), (1.0, 0.0))

    mean, covariance = moments(lambda noise: LCM(grid, noise=noise), consistency)
    # The boundary conditions leave c_skip = 2.5e-3 / t^2 of x in place, at timesteps of 100 and more.
    tolerance = 1e-6 if grid.schedule.t_min == -1 else 1e-12
    torch.testing.assert_close(mean, data.means[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(covariance, data.covariances[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("name", GRIDS_TO_DATA)
def test_tcd_samples_the_data_with_a_perfect_trajectory_model(name: str, gamma: float) -> None:
    """In any number of steps, at any gamma: with an x0 that leads exactly to the point at s on the trajectory."""
    data, grid = tilted_gaussian(), GRIDS_TO_DATA[name]()
    solver = TCD(grid, gamma=gamma)
    targets = [solver._target(end) for end in grid.points[1:]]

    def trajectory(x: Tensor, step: int) -> Tensor:
        node, target = grid.nodes[step], targets[step]
        there = data.transport(x, (node.alpha, node.sigma), (target.alpha, target.sigma))
        down = first_order(node, target)
        return (there - down.keep * x) / down.weights[0]

    mean, covariance = moments(lambda noise: TCD(grid, gamma=gamma, noise=noise), trajectory)
    torch.testing.assert_close(mean, data.means[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(covariance, data.covariances[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", GRIDS_TO_DATA)
def test_tcd_without_noise_is_ddim_bit_for_bit(name: str) -> None:
    grid, data = GRIDS_TO_DATA[name](), mixture()
    solvers = (TCD(grid, gamma=0.0), make_solver("ddim", grid))
    ends = [final_x(solver, data.denoiser(solver), unit_noise(5)) for solver in solvers]
    assert torch.equal(*ends)


@pytest.mark.parametrize("name", ["edm-karras", "flow-shifted"])
def test_lcm_and_tcd_meet_where_all_noise_is_new(name: str) -> None:
    """Without boundary conditions both, and the ancestral step with eta = inf, are x' = alpha' x0 + sigma' z."""
    grid, data, noise = GRIDS_TO_DATA[name](), mixture(), SeededNoise(SEEDS)
    solvers = [LCM(grid, noise=noise), TCD(grid, gamma=1.0, noise=noise)]
    solvers.append(EulerAncestral(grid, eta=float("inf"), noise=noise))  # type: ignore[arg-type]
    ends = [final_x(solver, data.denoiser(solver), unit_noise(5)) for solver in solvers]
    for one, other in pairwise(ends):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_lcm_boundary_conditions() -> None:
    """F(x, 0) = x: the network counts for nothing at timestep 0, and alone far from it."""
    solver = LCM(Grid.from_t(stable_diffusion(), [999, 0, -1]), noise=Constant(0.0))
    assert solver.boundary(solver.nodes[1]) == (1.0, 0.0)
    skip, out = solver.boundary(solver.nodes[0])
    assert skip == pytest.approx(0.25 / (9990**2 + 0.25)) and out == pytest.approx(1.0)
    x = unit_noise(3)
    assert torch.equal(solver.step(State(x, 1), torch.full_like(x, 7.0)).x, x)


@pytest.mark.parametrize("name", ["lcm", "tcd", "ddpm"])
def test_no_noise_is_drawn_onto_clean_data(name: str) -> None:
    noise, data = Constant(0.5), mixture()
    solver = make_solver(name, four_steps(), noise=noise)
    final_x(solver, data.denoiser(solver), unit_noise(3))
    assert noise.asked == [1, 2, 3]


@pytest.mark.parametrize("name", ["lcm", "tcd"])
def test_all_laws_hold_but_the_distribution_with_a_posterior_mean(name: str) -> None:
    """A network that was not distilled predicts the mean of x0: jumps to it lose variance, whatever the steps."""
    report = examine_solver(
        lambda grid, noise: make_solver(name, grid, noise=noise),
        stochastic=True,
        ends_at_x0=name != "lcm",
        grids={"flow-uniform": GRIDS["flow-uniform"]},
    )
    assert {law.name for law in report.failures} == {"distribution"}, str(report)
    assert {law.where.split("] ")[1] for law in report.failures} <= {"variance 0", "variance 1", "covariance"}
    assert make_solver(name, four_steps()).order == 0


def test_tcd_at_gamma_0_passes_the_examination() -> None:
    check_solver(lambda grid: TCD(grid, gamma=0.0), grids={"vp-karras": GRIDS["vp-karras"]})
    assert TCD(four_steps(), gamma=0.0).order == 1


def test_ddpm_of_large_variance_reaches_the_distribution() -> None:
    """The smaller one is examined with all stochastic solvers; it is the ancestral Euler step, bit for bit."""
    grids = {"vp-karras": GRIDS["vp-karras"], "edm": GRIDS["edm-karras"], "flow-uniform": GRIDS["flow-uniform"]}
    check_solver(lambda grid, noise: DDPM(grid, variance="fixed_large", noise=noise), stochastic=True, grids=grids)
    grid, data, noise = four_steps(), mixture(), SeededNoise(SEEDS)
    small, ancestral = DDPM(grid, noise=noise), EulerAncestral(grid, noise=noise)
    ends = [final_x(solver, data.denoiser(solver), unit_noise(5)) for solver in (small, ancestral)]
    assert torch.equal(*ends)


def test_clipped_x0() -> None:
    grid, x = four_steps(), unit_noise(3)
    for make in (DDPM, LCM):
        clipped = make(grid, clip=0.5, noise=Constant(0.0)).step(State(x), torch.full_like(x, 3.0)).x
        assert torch.equal(clipped, make(grid, noise=Constant(0.0)).step(State(x), torch.full_like(x, 0.5)).x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda grid: LCM(grid, timestep_scaling=0.0), "timestep_scaling and sigma_data above 0, got 0.0 and 0.5"),
        (lambda grid: LCM(grid, sigma_data=float("nan")), "above 0, got 10.0 and nan"),
        (lambda grid: LCM(grid, clip=-1.0), "LCM.clip must be above 0, or None for no clipping; got -1.0"),
        (lambda grid: DDPM(grid, clip=0.0), "DDPM.clip must be above 0"),
        (lambda grid: DDPM(grid, variance="learned_range"), "'learned_range'; known are fixed_small, fixed_large"),
        (lambda grid: TCD(grid, gamma=1.1), r"TCD.gamma must lie between 0 and 1, got 1.1"),
        (lambda grid: TCD(grid, gamma=float("nan")), "got nan"),
        (lambda grid: distilled_timesteps(9, 1000, 8), "original_inference_steps=8 allows 1 to 8 steps, got 9"),
    ],
)
def test_refused(make: Callable[[Grid], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(four_steps())
