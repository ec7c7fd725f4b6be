"""On an NVIDIA GPU, if there is one: the images of the CPU, host reads for decisions only, CUDA graphs, offloading."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import SADA, Pipeline
from sadaflow.accelerators import DeepCache

DEVICE = "cuda"
MODELS = ["tiny-sd", "tiny-flux"]
TWO = ["red apple", "blue heart"]
LOOP = ("accelerators", "solvers", "models")
LOOP += tuple(f"{name}.py" for name in ("answers", "conditioned", "denoiser", "finite", "readback", "rows", "sampling"))
OUTSIDE = [None, "sada", "auto", "easycache", "seacache", "adaptive-diffusion", "uniform"]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


@pytest.fixture(autouse=True)
def exactly() -> Iterator[None]:
    """Products and convolutions in float32, not TF32."""
    backends: Any = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [one.allow_tf32 for one in backends]
    for one in backends:
        one.allow_tf32 = False
    yield
    for one, allowed in zip(backends, before, strict=True):
        one.allow_tf32 = allowed


def run(pipe: Pipeline, accelerator: Any = None, steps: int = 16) -> Any:
    call: dict[str, Any] = {"max_sequence_length": 16} if pipe.name == "tiny-flux" else {}
    return pipe(TWO, steps=steps, seed=[3, 4], accelerator=accelerator, output="tensor", progress=False, **call)


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours.cpu(), theirs.cpu(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("accelerator", [*OUTSIDE, "inside"])
@pytest.mark.parametrize("model", MODELS)
def test_it_makes_the_pictures_of_the_cpu(model: str, accelerator: str | None) -> None:
    chosen = ({"tiny-sd": DeepCache(2), "tiny-flux": "teacache"}[model]) if accelerator == "inside" else accelerator
    here, there = (run(Pipeline.from_pretrained(model, device=one), chosen) for one in ("cpu", DEVICE))
    assert there.stats.modes == here.stats.modes
    assert_near(there.images, here.images)


@pytest.mark.parametrize("accelerator", [*OUTSIDE, SADA(token_trunk=True, weights=(4.0, 0.0, 0.0))])
@pytest.mark.parametrize("model", MODELS)
def test_nothing_waits_but_for_numbers(model: str, accelerator: Any) -> None:
    """torch warns of what waits; reading by an event, as `Readback` does, it does not count."""
    pipe = Pipeline.from_pretrained(model, device=DEVICE)
    solver = pipe.solver("euler", 16)
    run(pipe, accelerator)  # kernels are chosen and libraries loaded
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pipe(TWO, solver=solver, accelerator=accelerator, output="latent", progress=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [f"{one.filename}:{one.lineno}" for one in caught if "synchronizing" in str(one.message)]
    assert not [place for place in waits if any(part in place for part in LOOP)]


@pytest.mark.parametrize("model", MODELS)
def test_graphs_answer_as_eager_evaluations_do(model: str) -> None:
    plain, pipe = (Pipeline.from_pretrained(model, device=DEVICE) for _ in range(2))
    pipe.compile(mode="reduce-overhead")
    for accelerator in (None, "sada", "auto"):
        ours, theirs = run(pipe, accelerator), run(plain, accelerator)
        assert ours.stats.modes == theirs.stats.modes
        assert_near(ours.images, theirs.images)


@pytest.mark.parametrize("offload", ["model", "stream"])
@pytest.mark.parametrize("model", MODELS)
def test_offloading_changes_no_bit_and_takes_less(model: str, offload: str) -> None:
    found = []
    for how in (None, offload):
        pipe = Pipeline.from_pretrained(model, device=DEVICE, offload=how)
        run(pipe, steps=2)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        found.append((run(pipe, "uniform").images, torch.cuda.max_memory_allocated()))
        del pipe
    (whole, most), (parts, less) = found
    assert torch.equal(whole, parts)
    assert less < most


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model", MODELS)
def test_half_precision_is_near(model: str, dtype: torch.dtype) -> None:
    exact, half = (run(Pipeline.from_pretrained(model, device=DEVICE, dtype=one)) for one in (torch.float32, dtype))
    assert (half.latents - exact.latents).norm() < 0.15 * exact.latents.norm()
