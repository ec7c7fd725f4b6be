"""Each sample of a batch skips by itself: a batch of 4 costs the network the sum of what its samples cost alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import SADA, Accelerator, Auto, Pipeline, sample
from sadaflow.accelerators import (
    AdaptiveDiffusion,
    Combined,
    EasyCache,
    FirstBlock,
    Guidance,
    SeaCache,
    TeaCache,
    TokenCache,
)
from sadaflow.accelerators.replay import Replay, tensors_of
from sadaflow.checks.networks import TRANSFORMER, UNET, Seamed
from sadaflow.checks.problems import Modes
from sadaflow.checks.runs import solver_of
from sadaflow.families import Request
from sadaflow.models import Seam
from sadaflow.pipeline.inputs import initial_noise

PROMPTS = ("tree", "blue heart", "snowflake", "house")
SEEDS = tuple(range(102, 106))
STEPS = 15


class Counted:
    """A backbone that counts the rows it is given, guidance branches included."""

    def __init__(self, backbone: Any) -> None:
        self.backbone, self.rows = backbone, 0

    def __call__(self, x: Tensor, timestep: float, *, seam: Seam, **conditioning: Any) -> Tensor:
        self.rows += x.shape[0]
        return self.backbone(x, timestep, seam=seam, **conditioning)


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained()


# On these prompts the paper's criterion calls every step stable, so that samples skip alike.
@pytest.mark.parametrize(
    ("accelerator", "alike"),
    [(SADA(), True), (SADA(estimator="ab2"), False), (Auto(tolerance=0.02), False)],
    ids=["sada", "sada-ab2", "auto"],
)
def test_a_batch_costs_what_its_samples_cost_alone_and_gives_the_same(
    pipe: Pipeline, accelerator: Accelerator, alike: bool
) -> None:
    solver = pipe.solver("euler", STEPS)
    noise = initial_noise((4, 16, 16), SEEDS)

    def run(rows: list[int]) -> tuple[Tensor, list[float], int]:
        request = Request([PROMPTS[row] for row in rows], guidance=5.0)
        denoise = pipe.denoiser(solver, request)
        counted = Counted(denoise.backbone)
        result = sample(solver, replace(denoise, backbone=counted), noise[rows], accelerator)
        return result.x, result.stats.nfe, counted.rows

    x, nfe, together = run(list(range(len(PROMPTS))))
    singles = [run([row]) for row in range(len(PROMPTS))]
    alone = sum(rows for _, _, rows in singles)
    assert abs(together - alone) <= 0.05 * alone
    assert together == 2 * sum(nfe) < 0.95 * 2 * len(PROMPTS) * STEPS
    assert (len(set(nfe)) == 1) is alike
    for row, (single, _, _) in enumerate(singles):
        torch.testing.assert_close(x[row : row + 1], single, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("accelerator", "name", "kind"),
    [
        (AdaptiveDiffusion(), "euler", UNET),
        (Auto(tolerance=0.01), "unipc", UNET),
        (Auto(tolerance=0.02, nodes=5, warm_up=4, max_skips=9), "dpmpp3m", UNET),
        (Combined(Auto(tolerance=0.01), Guidance(every=3)), "dpmpp2m", UNET),
        (EasyCache(), "dpmpp2m", UNET),
        (FirstBlock(threshold=0.2), "dpmpp2m", TRANSFORMER),
        (SADA(), "dpmpp2m", UNET),
        (SeaCache(), "dpmpp2m", UNET),
        (TeaCache(), "dpmpp2m", TRANSFORMER),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_batch_of_six_that_decide_apart_is_six_batches_of_one(accelerator: Accelerator, name: str, kind: str) -> None:
    shape, generator = (2, 6, 6), torch.Generator().manual_seed(0)
    solver, data = solver_of(name, 20), Modes.drawn(6, shape)
    noise = torch.randn(6, *shape, generator=generator, dtype=torch.float64)
    together = sample(solver, Seamed(solver, data, kind), noise, accelerator)
    for row in range(6):
        alone = sample(solver, Seamed(solver, data.of([row]), kind), noise[row : row + 1], accelerator)
        assert together.stats.modes[row] == alone.stats.modes[0]
        torch.testing.assert_close(together.x[row : row + 1], alone.x, rtol=0, atol=1e-9)
    assert len(set(map(tuple, together.stats.modes))) > 1


@pytest.mark.parametrize("name", ["euler", "dpmpp2m", "dpmpp3m", "unipc3", "ipndm", "deis3", "dpm3m"])
def test_replay_takes_each_sample_from_its_own_last_evaluation(name: str) -> None:
    """Against the solver's steps for each sample by itself, at evaluations that are drawn at random."""
    steps, generator = 16, torch.Generator().manual_seed(2)
    solver = solver_of(name, steps)
    noise, rough, exact = (torch.randn(n, 5, 3, generator=generator, dtype=torch.float64) for n in (1, steps, steps))
    evaluated = torch.rand(steps, 5, generator=generator) < 0.4
    evaluated[0] = True
    replay, state, longest = Replay(solver, 5), solver.start(noise[0]), 0
    bases = [solver.start(noise[0][[row]]) for row in range(5)]
    for step in range(steps):
        rows = evaluated[step].nonzero()[:, 0].tolist()
        before = [tensor.clone() for tensor in tensors_of(state)]
        revised = replay.corrected(state, rows, lambda rows, steps: (exact[at][list(rows)] for at in steps))
        assert all(map(torch.equal, before, tensors_of(state)))
        for row in rows:
            longest = max(longest, step - bases[row].step)
            if bases[row].step < step - 1:
                while bases[row].step < step:
                    bases[row] = solver.step(bases[row], exact[bases[row].step][[row]])
            else:
                bases[row] = replace(state, x=state.x[[row]], history=tuple(past[[row]] for past in state.history))
            for found, expected in zip(tensors_of(revised), tensors_of(bases[row]), strict=True):
                torch.testing.assert_close(found[[row]], expected)
        others = [row for row in range(5) if row not in rows]
        assert torch.equal(revised.x[others], state.x[others])
        state = solver.step(revised, rough[step])
    assert longest > 3


def test_the_token_cache_of_tiny_sd_is_as_large_as_stated(pipe: Pipeline) -> None:
    """Three (branches, B, h*w, channels) tensors for each of the three blocks at the latent's own resolution: output,
    keys and values."""
    solver, samples = pipe.solver("euler", STEPS), 3
    denoise = pipe.denoiser(solver, Request(PROMPTS[:samples], guidance=5.0))
    cache = TokenCache(samples, max_depth=0)
    x = initial_noise((4, 16, 16), SEEDS[:samples])
    for step in (0, 5):
        denoise.evaluate(x, step, range(samples), cache.filling(range(samples)))
        assert cache.nbytes == 3 * 3 * 2 * samples * 16 * 16 * 64 * 4
