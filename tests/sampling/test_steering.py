"""`Steered` samples posteriors whose mean and covariance are known, and the programs of docs/steering.md run."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import Edit, Steered, sample
from sadaflow.accelerators import make_accelerator
from sadaflow.solvers import Gaussian, Grid, Node, RectifiedFlow, Solver, make_solver

PAGE = (Path(__file__).parents[2] / "docs/steering.md").read_text("utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
SIZE, NOISE = 4, 0.3
EYE = torch.eye(SIZE, dtype=torch.float64)
K = 0.2 * EYE + 0.5
A = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]], dtype=torch.float64)
Y = torch.tensor([0.7, -0.2], dtype=torch.float64)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def solver_of(name: str = "dpmpp2m", steps: int = 24, start: float = 0.99) -> Solver:
    times = torch.linspace(start, 0, steps + 1, dtype=torch.float64)
    return make_solver(name, Grid.from_t(RectifiedFlow(), times))


def covariance_at(node: Node) -> Tensor:
    """Covariance of x0 given x: prior and x are Gaussian."""
    return torch.linalg.inv(torch.linalg.inv(K) + (node.alpha / node.sigma) ** 2 * EYE)


def log_likelihood(x0: Tensor, node: Node, rows: Any) -> Tensor:
    error = (Y - x0 @ A.T).T
    total = A @ covariance_at(node) @ A.T + NOISE**2 * torch.eye(2, dtype=torch.float64)
    return -(error * torch.linalg.solve(total, error)).sum(0) / 2


PRIOR = Gaussian(torch.zeros(SIZE, dtype=torch.float64), K)
GAIN = K @ A.T @ torch.linalg.inv(A @ K @ A.T + NOISE**2 * torch.eye(2, dtype=torch.float64))
POSTERIOR = Gaussian(GAIN @ Y, K - GAIN @ A @ K)


@pytest.mark.parametrize("name", ["euler", "dpmpp2m", "heun"])
def test_the_steered_denoiser_is_that_of_the_posterior(name: str) -> None:
    solver = solver_of(name)
    steered, noise = Steered(PRIOR.denoiser(solver), solver.nodes, log_likelihood), drawn(0, 5, SIZE)
    for step in range(0, solver.n_evals, 3):
        assert torch.allclose(steered(noise, step), POSTERIOR.denoiser(solver)(noise, step), atol=1e-9)
    found, expected = (sample(solver, denoise, noise).x for denoise in (steered, POSTERIOR.denoiser(solver)))
    assert torch.allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("accelerator", ["uniform every=2", "auto", "sada"])
def test_accelerators_skip_it_as_any_denoiser(accelerator: str) -> None:
    solver, noise = solver_of(), drawn(0, 5, SIZE)
    steered = Steered(PRIOR.denoiser(solver), solver.nodes, log_likelihood)
    found = sample(solver, steered, noise, make_accelerator(accelerator))
    expected = sample(solver, POSTERIOR.denoiser(solver), noise).x
    assert max(found.stats.nfe) < solver.n_evals
    assert (found.x - expected).norm() < 0.05 * expected.norm()
    alone = sample(solver, steered, noise[2:3], make_accelerator(accelerator))
    assert torch.allclose(alone.x[0], found.x[2], atol=1e-9)


def test_edits_at_every_step_leave_nothing_to_skip() -> None:
    solver, noise = solver_of(), drawn(0, 5, SIZE)
    done = sample(
        solver, PRIOR.denoiser(solver), noise, make_accelerator("uniform every=2"),
        observer=lambda step: Edit(x0=step.x0 + 1e-3),
    )  # fmt: skip
    assert done.stats.nfe == [24.0] * 5


@pytest.mark.parametrize(
    ("wrong", "start", "words"),
    [
        (lambda x0, node, rows: x0.sum(), 0.99, "one number for each"),
        (lambda x0, node, rows: x0.detach().sum(1), 0.99, "be differentiable in x0"),
        (log_likelihood, 1.0, "alpha is 0 at evaluation 0: begin the grid below pure noise"),
    ],
)
def test_what_cannot_steer_is_refused(wrong: Callable[..., Tensor], start: float, words: str) -> None:
    solver = solver_of(start=start)
    with pytest.raises(ValueError, match=words):
        sample(solver, Steered(PRIOR.denoiser(solver), solver.nodes, wrong), drawn(0, 5, SIZE))


def test_the_program_of_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PROGRAMS[0], "docs/steering.md", "exec"), {})  # noqa: S102
    plain, steered = (re.findall(r"-?\d+\.\d+", line) for line in capsys.readouterr().out.splitlines()[-2:])
    assert [float(level) for level in steered[:2]] == pytest.approx([-0.5, 0.5], abs=0.1)
    assert float(plain[0]) == pytest.approx(float(plain[1]), abs=0.02)


@pytest.mark.slow
def test_the_program_of_inverse_problems_has_the_numbers_of_the_page() -> None:
    space: dict[str, Any] = {}
    exec(compile(PROGRAMS[1], "docs/steering.md", "exec"), space)  # noqa: S102
    table = [line.split("|")[2:5] for line in PAGE.splitlines() if re.match(r"\| .*\| \d\.\d\d, ", line)]
    stated = [[[float(number) for number in cell.split(",")] for cell in row] for row in table]
    found = [list(row) for row in zip(*(list(scores.values()) for scores in space["scores"].values()), strict=True)]
    for row, numbers in zip(stated, found, strict=True):
        for cell, pair in zip(row, numbers, strict=True):
            assert pair == pytest.approx(cell, rel=0.02, abs=0.02)
