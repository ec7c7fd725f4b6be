"""Weights of large files stay in the mapped file; the networks are those of a copy."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sadaflow import Pipeline
from sadaflow.loading import safetensors_file
from support.checkpoints_original import original


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mapped_weights_are_those_of_a_copy(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = original(tmp_path / "in", "sdxl")
    kind: Any = getattr(torch, dtype)
    path = tmp_path / f"{dtype}.safetensors"
    save_file({name: x.to(kind) if x.is_floating_point() else x for name, x in load_file(file).items()}, path)
    copied = Pipeline.from_single_file(path, tokenizer=folder, dtype=dtype)
    monkeypatch.setattr(safetensors_file, "_LARGE_FILE", 0)
    monkeypatch.setattr(safetensors_file, "_LARGE_TENSOR", 64)
    mapped = Pipeline.from_single_file(path, tokenizer=folder, dtype=dtype)
    call: dict[str, Any] = {"steps": 2, "height": 32, "width": 32, "output": "latent", "progress": False}
    assert torch.equal(mapped("a", **call).latents, copied("a", **call).latents)
    before = path.read_bytes()
    for (name, ours), theirs in zip(mapped.backbone.named_parameters(), copied.backbone.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.stride() == theirs.stride(), name
        ours.data.zero_()
    assert path.read_bytes() == before  # a change of the weights is not one of the file
    again = pickle.loads(pickle.dumps(Pipeline.from_single_file(path, tokenizer=folder, dtype=dtype)))
    assert torch.equal(again("a", **call).latents, copied("a", **call).latents)


def test_mapped_weights_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file = original(tmp_path / "in", "sd15")
    monkeypatch.setattr(safetensors_file, "_LARGE_FILE", 0)
    monkeypatch.setattr(safetensors_file, "_LARGE_TENSOR", 64)
    name = "model.diffusion_model.time_embed.0.weight"
    tensors = load_file(file)
    tensors[name][3, 4] = torch.inf
    save_file(tensors, tmp_path / "file.safetensors")
    with pytest.raises(ValueError, match="time_embed.0.weight holds NaN or infinity"):
        Pipeline.from_single_file(tmp_path / "file.safetensors", tokenizer=folder)
