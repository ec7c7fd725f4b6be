"""Weights of large files stay in the mapped file; the networks are those of a copy."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sadaflow import Pipeline
from sadaflow.loading import mapped_weights
from sadaflow.loading.copied_weights import copied
from sadaflow.loading.safetensors_file import Stored
from support.checkpoints_original import original


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return original(tmp_path_factory.mktemp("sd15"), "sd15")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mapped_weights_are_those_of_a_copy(
    dtype: str, made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = made
    kind: Any = getattr(torch, dtype)
    path = tmp_path / f"{dtype}.safetensors"
    save_file({name: x.to(kind) if x.is_floating_point() else x for name, x in load_file(file).items()}, path)
    copied = Pipeline.from_single_file(path, tokenizer=folder, dtype=dtype)
    monkeypatch.setattr(mapped_weights, "_LARGE_FILE", 0)
    monkeypatch.setattr(mapped_weights, "_LARGE_TENSOR", 64)
    mapped = Pipeline.from_single_file(path, tokenizer=folder, dtype=dtype)
    call: dict[str, Any] = {"steps": 1, "height": 32, "width": 32, "output": "latent", "progress": False}
    expected, bound = copied("a", **call).latents, 1e-6 if dtype == "float32" else 1e-2
    # Memory that starts elsewhere is added up in another order.
    assert float((mapped("a", **call).latents - expected).abs().max() / expected.abs().max()) < bound
    before = path.read_bytes()
    for (name, ours), theirs in zip(mapped.backbone.named_parameters(), copied.backbone.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.stride() == theirs.stride(), name
        ours.data.zero_()
    assert path.read_bytes() == before  # a change of the weights is not one of the file
    again = pickle.loads(pickle.dumps(Pipeline.from_single_file(path, tokenizer=folder, dtype=dtype)))
    assert float((again("a", **call).latents - expected).abs().max() / expected.abs().max()) < bound


@pytest.mark.parametrize(
    ("prefix", "leaf", "output"),
    [
        ("model.diffusion_model.", "time_embed.0.weight", "latent"),
        ("first_stage_model.", "decoder.mid.attn_1.q.weight", "tensor"),
        ("cond_stage_model.transformer.text_model.", "encoder.layers.0.mlp.fc1.weight", "latent"),
    ],
)
def test_a_run_that_fails_names_the_damaged_weights(
    prefix: str,
    leaf: str,
    output: str,
    made: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loading does not read them."""
    folder, file = made
    monkeypatch.setattr(mapped_weights, "_LARGE_FILE", 0)
    monkeypatch.setattr(mapped_weights, "_LARGE_TENSOR", 64)
    tensors, path = load_file(file), tmp_path / "file.safetensors"
    whole = {**tensors, prefix + leaf: tensors[prefix + leaf].clone()}
    tensors[prefix + leaf].view(-1)[3] = torch.nan
    call: dict[str, Any] = {"steps": 1, "height": 32, "width": 32, "output": output, "progress": False}
    save_file(tensors, path)
    pipe = Pipeline.from_single_file(path, tokenizer=folder)
    for each in (pipe, pickle.loads(pickle.dumps(pipe)), pipe):
        with pytest.raises(FloatingPointError, match=rf"file.safetensors: 1 tensors.*{leaf}\): the file is dam"):
            each("a", **call)
    save_file(whole, tmp_path / "whole.safetensors")
    pipe = Pipeline.from_single_file(tmp_path / "whole.safetensors", tokenizer=folder)
    with torch.no_grad():
        pipe.backbone.get_submodule("time_embedding.linear_1").weight.fill_(torch.nan)  # type: ignore[union-attr,operator]
    with pytest.raises(FloatingPointError, match="^x0 is not finite"):
        pipe("a", **call)


@pytest.mark.parametrize("shape", [(3 * 2**19, 2), (2**20 + 1,), (1030, 1030), (600, 200, 3, 3), (1100, 1000, 1, 1)])
@pytest.mark.parametrize("dtypes", ["F16 bfloat16", "F16 float16", "BF16 float16", "F32 bfloat16", "F16 float32"])
def test_copies_in_chunks_are_those_of_torch(shape: tuple[int, ...], dtypes: str) -> None:
    name, _, into = dtypes.partition(" ")
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(mapped_weights._DTYPES[name])
    dtype: torch.dtype = getattr(torch, into)
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    expected = tensor.to(dtype, memory_format=layout)
    stored, cpu = Stored(Path("file"), "x", shape, name), torch.device("cpu")
    found = copied(stored, tensor, dtype, cpu)
    assert torch.equal(found, expected) and found.stride() == expected.stride()
    tensor.view(-1)[-1] = torch.inf
    with pytest.raises(ValueError, match="file: x holds NaN or infinity"):
        copied(stored, tensor, dtype, cpu)
    if name in ("BF16", "F32") and into == "float16":
        tensor.view(-1)[-1] = 1e9
        with pytest.raises(ValueError, match="file: x does not fit torch.float16"):
            copied(stored, tensor, dtype, cpu)
