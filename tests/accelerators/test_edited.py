"""Edited samples are evaluated in full at the next step and not estimated from what they were; others stay."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import Edit, Sampled, Step, sample
from sadaflow.accelerators import Accelerator, Uniform, make_accelerator
from sadaflow.accelerators.base import Mode
from sadaflow.accelerators.registry import ACCELERATORS
from sadaflow.checks.networks import PLAIN, TRANSFORMER, UNET, Plain, Seamed
from sadaflow.checks.problems import Modes
from sadaflow.checks.runs import solver_of
from sadaflow.models import call_through
from sadaflow.sampling.observing import Reply

STEPS, ROW, OTHERS = 40, 1, [0, 2, 3]
NETWORK = dict.fromkeys(("dbcache", "dicache", "first-block", "speca", "teacache"), TRANSFORMER)
HELD = ("dicache", "hicache", "meancache", "speca")  # too coarse right after an edit to find the mode of the data
NAMES = [*ACCELERATORS, "uniform+guidance", "auto+deepcache"]


def run(accelerator: Any, at: int | None = None, network: str = UNET) -> Sampled:
    """Samples four samples; at the step `at` the states of one are turned over."""
    solver, data = solver_of("dpmpp2m", STEPS), Modes.drawn(4, (2, 6, 6))
    generators = [torch.Generator().manual_seed(row) for row in range(4)]
    noise = torch.stack([torch.randn(2, 6, 6, generator=each, dtype=torch.float64) for each in generators])

    def turn(step: Step) -> Reply:
        if step.index != at or step.x_next is None:
            return None
        x = step.x_next.clone()
        x[ROW] = -x[ROW]
        return Edit(x=x)

    denoise = Plain(solver, data, "flow") if network == PLAIN else Seamed(solver, data, network, "flow", verify=False)
    return sample(solver, denoise, noise, accelerator, observer=turn)


def distance(x: Tensor, expected: Tensor) -> float:
    return float((x[ROW] - expected[ROW]).norm() / expected[ROW].norm())


@pytest.fixture(scope="module")
def plain() -> dict[int | None, Tensor]:
    return {at: run(None, at).x for at in (None, 18, 27)}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HELD])
def test_an_edited_sample_follows_its_new_states(name: str, plain: dict[int | None, Tensor]) -> None:
    network = NETWORK.get(name, UNET)
    usual = run(make_accelerator(name), network=network)
    for at in (18, 27):
        found = run(make_accelerator(name), at, network)
        assert found.stats.modes[ROW][at + 1] == "full"
        assert distance(plain[at], plain[None]) > 0.5  # the edit matters
        assert distance(found.x, plain[at]) < 4 * distance(usual.x, plain[None]) + 1e-3
        assert torch.equal(found.x[OTHERS], usual.x[OTHERS])
        assert [found.stats.modes[row] for row in OTHERS] == [usual.stats.modes[row] for row in OTHERS]


def replaced(name: str, at: int, seed: int) -> Sampled:
    """Samples four samples; after the step `at` one that began from the noise `seed` gets states of its own."""
    solver, data = solver_of("euler", STEPS), Modes.drawn(4, (2, 6, 6))
    drawn = [torch.Generator().manual_seed(each) for each in (0, seed, 2, 3, 99)]
    *noise, fresh = [torch.randn(2, 6, 6, generator=each, dtype=torch.float64) for each in drawn]

    def replace(step: Step) -> Reply:
        if step.index != at or step.x_next is None:
            return None
        x = step.x_next.clone()
        x[ROW] = fresh
        return Edit(x=x)

    denoise = Seamed(solver, data, NETWORK.get(name, UNET), "flow", verify=False)
    return sample(solver, denoise, torch.stack(noise), make_accelerator(name), observer=replace)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_of_what_a_sample_was(name: str) -> None:
    """With a solver of one step its end depends on its new states alone.

    How far auto and AdaptiveDiffusion skip may still follow from how fast x0 moved before.
    """
    bound = 1e-2 if name.startswith(("auto", "adaptive")) else 1e-12
    for at in (18, 19, 27):
        first, second = (replaced(name, at, seed).x[ROW] for seed in (7, 8))
        assert (first - second).norm() <= bound * first.norm()


def test_steps_that_are_taken_again_do_not_undo_an_edit(plain: dict[int | None, Tensor]) -> None:
    corrected = Uniform(every=4, correct=True)
    usual = run(corrected)
    for at in (18, 19, 27):
        expected = plain[at] if at in plain else run(None, at).x
        assert distance(run(corrected, at).x, expected) < 4 * distance(usual.x, plain[None]) + 1e-3


class Stranger:
    """A run that is not a `Run`, skips every second step with the last x0, and does not know of edits."""

    def __init__(self) -> None:
        self.last = torch.empty(0)

    def begin(self, solver: Any, shape: torch.Size, *, seams: bool) -> "Stranger":
        return self

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.REUSED if step % 2 else Mode.FULL] * 4

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return self.last[list(rows)]

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Any:
        return call_through

    def revise(self, state: Any, x0: Tensor) -> Any:
        return state

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.last = x0


def test_a_run_that_does_not_know_of_edits_is_planned_in_full_after_one() -> None:
    stranger: Accelerator = Stranger()  # type: ignore[assignment]
    found, usual = run(stranger, 18, PLAIN), run(stranger, network=PLAIN)
    assert usual.stats.modes[ROW][19] == "reused" and found.stats.modes[ROW][19] == "full"
    assert found.stats.modes[0] == usual.stats.modes[0] and torch.equal(found.x[OTHERS], usual.x[OTHERS])
