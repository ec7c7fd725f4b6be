"""An x0 that is not finite stops the run: at once, or one step later if the host runs ahead of the device."""

import pytest
import torch

from sadaflow import sample
from sadaflow.sampling.finite_check import FiniteCheck
from sadaflow.solvers import Grid, RectifiedFlow, Solver, make_solver


def solver() -> Solver:
    return make_solver("euler", Grid.from_t(RectifiedFlow(), torch.linspace(1.0, 0.0, 5, dtype=torch.float64)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("shape", [(3,), (3, 2, 4, 4)])
def test_the_run_names_step_and_samples(value: float, shape: tuple[int, ...]) -> None:
    def denoise(x: torch.Tensor, step: int) -> torch.Tensor:
        x0 = torch.zeros_like(x)
        if step == 2:
            x0[1].fill_(value)
        return x0

    with pytest.raises(FloatingPointError, match=r"step 2 of 4 .* for samples \[1\]"):
        sample(solver(), denoise, torch.randn(shape))


def test_a_lagging_check_looks_at_the_step_before() -> None:
    good, bad = torch.zeros(2, 3), torch.tensor([[0.0, 0, 0], [0, torch.nan, 0]])
    check = FiniteCheck(solver(), lag=True)
    for step, x0 in enumerate((good, bad)):
        check.check(good, x0, step)
        check.catch_up()
    check.check(good, good, 2)
    with pytest.raises(FloatingPointError, match=r"step 1 of 4 .* for samples \[1\]"):
        check.catch_up()
    check.check(good, bad, 3)
    with pytest.raises(FloatingPointError, match="step 3"):
        check.finish(good)
    check.finish(good)
