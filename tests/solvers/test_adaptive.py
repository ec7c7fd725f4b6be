"""Adaptive solvers pass their examination, and wrong ones fail the law that is meant to catch them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.integrate import RK23, RK45
from torch import Tensor

from sadaflow.solvers import Adaptive, AdaptiveRun, Node
from sadaflow.solvers.adaptive import PAIRS
from sadaflow.solvers.checks import check_adaptive, examine_adaptive

Denoise = Callable[[Tensor, Node], Tensor]


@pytest.mark.parametrize(("name", "theirs"), [("bogacki-shampine", RK23), ("dormand-prince", RK45)])
def test_pairs_are_those_of_scipy(name: str, theirs: Any) -> None:
    pair, stages = PAIRS[name], len(theirs.C)
    assert pair.order == theirs.order
    assert pair.nodes == pytest.approx([*theirs.C, 1.0], rel=1e-15)
    for stage in range(1, stages):
        assert pair.rows[stage - 1] == pytest.approx(theirs.A[stage, :stage], rel=1e-15)
    assert pair.rows[-1] == pytest.approx(theirs.B, rel=1e-15)
    assert pair.error == pytest.approx(-theirs.E, rel=1e-13)


@pytest.mark.parametrize("pair", PAIRS)
def test_adaptive(pair: str) -> None:
    report = check_adaptive(lambda s, a, b, tolerance: Adaptive(s, a, b, rtol=tolerance, atol=tolerance, pair=pair))
    assert report.subject == "Adaptive" and len(report.laws) == 27


class Changed(Adaptive):
    def __init__(self, schedule: Any, start: float, end: float, tolerance: float) -> None:
        super().__init__(schedule, start, end, rtol=tolerance, atol=tolerance)


class Careless(Changed):
    """The tolerance is not used."""

    def __init__(self, schedule: Any, start: float, end: float, tolerance: float) -> None:
        super().__init__(schedule, start, end, 0.03)


class Miscounts(Changed):
    """Evaluations of rejected steps are not counted."""

    def solve(self, denoise: Denoise, noise: Tensor) -> AdaptiveRun:
        run = super().solve(denoise, noise)
        return replace(run, nfe=run.nfe - run.rejected - 1)


class WrongTimestep(Changed):
    """Stages get the timestep 1000 s."""

    def node(self, s: float) -> Node:
        return replace(super().node(s), timestep=1000 * s)


class Remembers(Changed):
    """The last state is kept in the object, to start from."""

    def solve(self, denoise: Denoise, noise: Tensor) -> AdaptiveRun:
        before = self.__dict__.get("kept", torch.zeros_like(noise))
        run = super().solve(denoise, noise + 1e-6 * before if before.shape == noise.shape else noise)
        self.__dict__["kept"] = noise
        return run


class StopsShort(Changed):
    """The run ends before t_end."""

    def __init__(self, schedule: Any, start: float, end: float, tolerance: float) -> None:
        super().__init__(schedule, start, 1.0001 * end, tolerance)


class Waits(Changed):
    """A controller that waits until the error is zero."""

    def solve(self, denoise: Denoise, noise: Tensor) -> AdaptiveRun:
        while True:
            denoise(noise, self.nodes[0])


@pytest.mark.parametrize(
    ("solver", "law"),
    [
        (Careless, "tolerance"),
        (Miscounts, "evaluations"),
        (WrongTimestep, "timesteps"),
        (Remembers, "object"),
        (StopsShort, "accepted grid"),
        (Waits, "tolerance"),
    ],
)
def test_wrong_adaptive_solvers(solver: Any, law: str) -> None:
    report = examine_adaptive(solver, seconds=1.0 if solver is Waits else 60.0)
    assert law in {failure.name for failure in report.failures}, str(report)
    with pytest.raises(AssertionError, match=f"FAIL  {law}"):
        check_adaptive(solver, seconds=1.0)
