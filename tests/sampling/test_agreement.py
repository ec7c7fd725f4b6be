"""Denoiser, solver and checkpoint must agree on the nodes; adaptive solvers choose theirs on the way."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import Pipeline, sample
from sadaflow.families import Request
from sadaflow.loading.embedded import embedded
from sadaflow.solvers import EDM, Adaptive, Euler, Grid, RectifiedFlow, State, make_solver
from sadaflow.solvers.checks.problems import GRIDS, mixture, unit_noise


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained(embedded("tiny-sd"))


def test_a_denoiser_of_another_solver_is_refused(pipe: Pipeline) -> None:
    solver, other = pipe.solver("euler", 5), pipe.solver("euler", 3)
    request = Request(["red apple"])
    noise = torch.zeros(1, 4, 8, 8)
    with pytest.raises(ValueError, match="made for 5 evaluations, and the solver has 3"):
        sample(other, pipe.denoiser(solver, request), noise)
    shifted = pipe.solver("euler", 5, "karras")
    with pytest.raises(ValueError, match=r"differ at evaluation \d: the denoiser has alpha=.*, the solver alpha="):
        sample(shifted, pipe.denoiser(solver, request), noise)
    told = replace(solver, grid=replace(solver.grid, timestep=solver.grid.timestep + 5))  # type: ignore[type-var]
    with pytest.raises(ValueError, match="differ at evaluation 0"):
        sample(told, pipe.denoiser(solver, request), noise)


@pytest.mark.parametrize("schedule", [RectifiedFlow(), EDM()])
def test_a_grid_of_another_kind_of_schedule_is_refused(pipe: Pipeline, schedule: Any) -> None:
    solver = make_solver("euler", Grid.from_t(schedule, [0.9, 0.5, 0.1]))
    with pytest.raises(ValueError, match=r"not on this checkpoint's schedule \(VPDiscrete\): at evaluation 0"):
        pipe("red apple", solver=solver)


@dataclass(frozen=True, eq=False)
class Breaks(Euler):
    """A solver that makes a NaN at one step."""

    at: int = 3

    def step(self, state: State, x0: Tensor) -> State:
        after = super().step(state, x0)
        return State(after.x * torch.nan, after.step) if state.step == self.at else after


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_state_that_is_not_finite_names_the_solvers_step(at: int) -> None:
    solver = Breaks(GRIDS["vp-karras"](7), at)
    with pytest.raises(FloatingPointError, match=rf"x is not finite after step {at} of 7 .*samples \[0, 1\].*Breaks"):
        sample(solver, mixture().denoiser(solver), unit_noise(2))


def test_an_adaptive_run_is_the_solvers_own() -> None:
    solver = Adaptive(EDM(), 20.0, 0.05)

    def denoise(x: Tensor, node: Any) -> Tensor:
        return mixture().x0(x, node.alpha, node.sigma)

    steps: list[int] = []
    result = sample(solver, denoise, unit_noise(3), observer=lambda step: steps.append(step.index))
    run = solver.solve(denoise, unit_noise(3))
    assert torch.equal(result.x, run.x)
    assert result.stats.nfe == [run.nfe] * 3 and steps == list(range(run.nfe))
    with pytest.raises(ValueError, match="accelerator='sada' plans a fixed number of evaluations"):
        sample(solver, denoise, unit_noise(3), "sada")
    with pytest.raises(ValueError, match="trace=True needs a number of evaluations"):
        sample(solver, denoise, unit_noise(3), trace=True)


def test_a_pipeline_runs_an_adaptive_solver(pipe: Pipeline) -> None:
    solver = Adaptive(pipe.schedule, 999.0, 5.0, rtol=3e-3, atol=3e-3, pair="bogacki-shampine", clean=True)
    out = pipe("red apple", solver=solver, seed=0, output="latent")
    fixed = pipe("red apple", solver="rk4", steps=40, seed=0, output="latent")
    assert float((out.latents - fixed.latents).abs().mean()) < 0.05 * float(fixed.latents.abs().mean())
    with pytest.raises(ValueError, match="accelerator=.* plans a fixed number"):
        pipe("red apple", solver=solver, seed=0, accelerator="sada")
