"""Computations that stay in float32 or better while the networks use half precision; docs/memory.md lists them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sadaflow import Pipeline
from sadaflow.loading.checkpoint import Checkpoint
from sadaflow.loading.text_encoder import prepare_encoder
from sadaflow.metrics import psnr
from sadaflow.models.embeddings import sinusoids
from sadaflow.models.rope import rotary_table
from support.checkpoints_flux import flux

HALVES = [torch.bfloat16, torch.float16]


def is_rounded(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    return torch.equal(tensor, tensor.to(dtype).to(tensor.dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_the_trajectory_is_not_rounded(dtype: torch.dtype) -> None:
    call = {"steps": 4, "solver": "euler", "seed": 2, "height": 32, "width": 32, "output": "tensor", "trace": True}
    half, exact = (Pipeline.from_pretrained(dtype=kind)("red apple", **call) for kind in (dtype, torch.float32))
    assert half.trace is not None and exact.trace is not None
    for name in ("x", "x0", "y"):
        tensor = getattr(half.trace, name)
        assert tensor.dtype is torch.float32
        for step in range(1, tensor.shape[1]):
            assert not is_rounded(tensor[:, step], dtype)
    assert half.latents.dtype is half.images.dtype is torch.float32
    assert torch.equal(half.trace.x[:, 0], exact.trace.x[:, 0])  # the start is drawn in float32, whatever the network
    off, least = {torch.bfloat16: (0.12, 27.0), torch.float16: (0.012, 50.0)}[dtype]
    assert (half.latents - exact.latents).norm() < off * exact.latents.norm()
    assert psnr(half.images, exact.images) > least


@pytest.mark.parametrize("dtype", HALVES)
def test_sinusoids_and_rotations_are_not_rounded(dtype: torch.dtype) -> None:
    times = torch.tensor([3.0, 500.0, 996.0], dtype=dtype)  # numbers that both formats hold
    features = sinusoids(times, 64)
    assert features.dtype is torch.float32
    angles = times.double().numpy()[:, None] * 10_000.0 ** (-np.arange(32) / 32)
    np.testing.assert_allclose(features, np.concatenate((np.cos(angles), np.sin(angles)), axis=1), atol=1e-4)
    table = rotary_table((3, 200), (8, 12, 12), torch.device("cpu"))
    assert table.dtype is torch.float32
    angles = np.arange(200)[:, None] * 10_000.0 ** (-np.arange(6) / 6)
    np.testing.assert_allclose(table[:200, 10:, 0], np.cos(angles), atol=1e-6)


def test_t5_keeps_in_float32_what_overflows(tmp_path: Path) -> None:
    checkpoint = Checkpoint(flux(tmp_path / "flux", "dev"), None, torch.float16, torch.device("cpu"))
    encoder = prepare_encoder(checkpoint, "text_encoder_2", "T5EncoderModel").build()
    checkpoint.fill()
    kept = {name.rpartition(".wo.")[1] for name, weight in encoder.named_parameters() if weight.dtype is torch.float32}
    assert kept == {".wo."}
