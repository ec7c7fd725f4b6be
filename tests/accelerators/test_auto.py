"""`Auto` in the sampling loop: replayed steps, tolerance, memories and budgets."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import Auto, Uniform, sample
from sadaflow.solvers import Solver
from support.gaussians import SHAPE, problem, solver_of


@pytest.mark.parametrize("name", ["euler", "dpmpp2m", "dpmpp3m"])
def test_replayed_steps_are_exact_for_one_degree_more(name: str) -> None:
    solver = solver_of(20, name, end=0.05)
    log_snr = [node.log_snr for node in solver.nodes]
    generator = torch.Generator().manual_seed(0)
    curve = torch.randn(4, 2, *SHAPE, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64)

    def cubic(x: Tensor, step: int) -> Tensor:
        return sum((curve[k] * log_snr[step] ** k for k in range(1, 4)), curve[0])

    plain = sample(solver, cubic, noise)
    corrected = sample(solver, cubic, noise, Uniform(every=3, order=2, correct=True))
    extrapolated = sample(solver, cubic, noise, Uniform(every=3, order=2))
    torch.testing.assert_close(corrected.x, plain.x)
    assert (extrapolated.x - plain.x).abs().max() > 1e-3


def test_less_tolerance_costs_more_and_errs_less() -> None:
    solver, denoise, noise = problem(50)
    plain = sample(solver, denoise, noise)
    costs, errors = [], []
    for tolerance in (1e-2, 1e-4, 1e-6):
        result = sample(solver, denoise, noise, Auto(tolerance=tolerance))
        costs.append(sum(result.stats.nfe))
        errors.append(float((result.x - plain.x).square().mean().sqrt()))
    assert costs == sorted(set(costs)) and errors == sorted(errors, reverse=True)
    assert all(error < 10 * tolerance for error, tolerance in zip(errors, (1e-2, 1e-4, 1e-6), strict=True))


def test_each_sample_takes_the_memory_that_guesses_it_best() -> None:
    solver = solver_of(30, "euler", end=0.05)
    log_snr = torch.tensor([node.log_snr for node in solver.nodes], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    slope = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    walk = torch.randn(30, *SHAPE, generator=generator, dtype=torch.float64).cumsum(0)

    class Kept(Auto):
        def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Any:
            runs.append(super().begin(solver, shape, seams=seams))
            return runs[-1]

    runs: list[Any] = []
    noise = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64)
    sample(solver, lambda x, step: torch.stack([slope * log_snr[step], walk[step]]), noise, Kept(memories=(0.1, 10.0)))
    assert runs[0].motions.memory.tolist() == [10.0, 0.1]


def test_what_auto_is_given_is_checked() -> None:
    with pytest.raises(ValueError, match=r"Auto.memories must be.*\(0.3, 0.0\)"):
        Auto(memories=(0.3, 0.0))
    with pytest.raises(ValueError, match="Auto.memories"):
        Auto(memories=())
    with pytest.raises(ValueError, match="Auto.nodes must be at least 1, got 0"):
        Auto(nodes=0)


@pytest.mark.parametrize("steps", [25, 50])
@pytest.mark.parametrize("speedup", [1.4, 2.0, 2.5])
def test_a_budget_is_kept_and_well_spent(steps: int, speedup: float) -> None:
    solver, denoise, noise = problem(steps)
    plain = sample(solver, denoise, noise)
    budget = steps / speedup
    result = sample(solver, denoise, noise, Auto(budget=budget))
    assert all(budget - 2 < nfe <= budget + 1 for nfe in result.stats.nfe)
    again = sample(solver, denoise, noise, Auto(speedup=speedup, tolerance=0.1))
    assert all(budget - 2 < nfe <= budget + 1 for nfe in again.stats.nfe)
    coarse = sample(*problem(round(budget)))
    error, rival = ((one.x - plain.x)[:-1].square().mean() for one in (result, coarse))  # the last one wiggles
    assert error < rival / 10


def test_a_budget_beyond_the_steps_skips_nothing_and_one_out_of_reach_is_refused() -> None:
    solver, denoise, noise = problem(30)
    assert torch.equal(sample(solver, denoise, noise, Auto(budget=30)).x, sample(solver, denoise, noise).x)
    with pytest.raises(ValueError, match="at least 9 of 30 evaluations, asked for 7.5.*lower speedup"):
        sample(solver, denoise, noise, Auto(speedup=4.0))
    with pytest.raises(ValueError, match="not both: 2.0 and 20"):
        Auto(speedup=2.0, budget=20)
    with pytest.raises(ValueError, match="Auto.speedup must be at least 1, got 0.5"):
        Auto(speedup=0.5)
