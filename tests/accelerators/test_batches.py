"""Each sample of a batch skips by itself: a batch of 4 costs the network the sum of what its samples cost alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import SADA, Accelerator, Auto, Pipeline, sample
from sadaflow.accelerators import TokenCache
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
