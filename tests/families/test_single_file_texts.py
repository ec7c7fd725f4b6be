"""Text encoders in single files whose configs the base has: SD3's, without CLIP-L's projection, and Z-Image's."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.pipeline.inspection import inspect
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image

CALL = {"prompt": "a red apple", "height": 24, "width": 16, "steps": 2, "seed": 1, "output": "latent"}
NETWORK = "model.diffusion_model."
SD3_TEXTS = {"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5xxl"}


def network(base: Path) -> dict[str, Tensor]:
    """The base's transformer; the Hub's names under the prefix are read as well as the authors'."""
    state = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    return {name: tensor.contiguous() for name, tensor in state.items()}


def texts(base: Path, components: dict[str, str], change: float) -> dict[str, Tensor]:
    """The base's text encoders under ComfyUI's names, their final norm changed, without CLIP-L's projection."""
    made = {}
    for component, name in components.items():
        for key, tensor in load_file(base / component / "model.safetensors").items():
            if name != "clip_l" or not key.startswith("text_projection"):
                made[f"text_encoders.{name}.transformer.{key}"] = tensor + change * ("final_layer_norm" in key)
        made[f"text_encoders.{name}.logit_scale"] = torch.ones(())
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sd3(tmp_path_factory.mktemp("sd3") / "base", "3 medium")


def authors(base: Path) -> dict[str, Tensor]:
    original = Pipeline.from_pretrained(base).backbone.original
    state = network(base)
    modules = [*original.own_modules(state), "context_embedder"]
    made = {f"{name}.{leaf}": original.join(f"{name}.{leaf}", state) for name in modules for leaf in ("weight", "bias")}
    return {NETWORK + name: tensor for name, tensor in made.items()} | {
        f"{NETWORK}pos_embed": state["pos_embed.pos_embed"]
    }


@pytest.mark.parametrize("count", [2, 3])
def test_text_encoders_of_sd3_files_are_used(base: Path, tmp_path: Path, count: int) -> None:
    """With clips alone (sd3_medium_incl_clips) T5 is the base's."""
    components = dict(list(SD3_TEXTS.items())[:count])
    save_file({**authors(base), **texts(base, components, 1.0)}, tmp_path / "file.safetensors")
    pipe, reference = (
        Pipeline.from_single_file(tmp_path / "file.safetensors", base=base),
        Pipeline.from_pretrained(base),
    )
    for name, encoder in pipe.family.adaptable.items():
        expected = reference.family.adaptable[name].state_dict()
        for key, tensor in encoder.state_dict().items():
            change = 1.0 if "final_layer_norm" in key and name in components else 0.0
            assert torch.equal(tensor, expected[key] + change)
    assert not torch.equal(pipe(**CALL).latents, reference(**CALL).latents)
    found = inspect(str(tmp_path / "file.safetensors"))
    assert found.refused is None and [part.name for part in found.components][1:] == list(components)


def test_plain_fp8_t5_is_widened(base: Path, tmp_path: Path) -> None:
    """sd3_medium_incl_clips_t5xxlfp8: T5's matrices in fp8 without scales."""
    tensors = texts(base, SD3_TEXTS, 0.0)
    for name, tensor in tensors.items():
        if "t5xxl" in name and tensor.dim() == 2:
            tensors[name] = tensor.to(torch.float8_e4m3fn)
    save_file({**authors(base), **tensors}, tmp_path / "fp8.safetensors")
    pipe = Pipeline.from_single_file(tmp_path / "fp8.safetensors", base=base)
    query = "encoder.block.0.layer.0.SelfAttention.q.weight"
    stored = tensors[f"text_encoders.t5xxl.transformer.{query}"].float()
    assert torch.equal(pipe.family.t5.encoder.state_dict()[query], stored)


def test_a_file_with_t5_needs_a_base_with_t5(base: Path, tmp_path: Path) -> None:
    other = sd3(tmp_path / "other", "3 medium", t5=False)
    save_file({**authors(base), **texts(base, SD3_TEXTS, 0.0)}, tmp_path / "file.safetensors")
    with pytest.raises(ValueError, match=r"t5xxl.*other has no text_encoder_3, whose config"):
        Pipeline.from_single_file(tmp_path / "file.safetensors", base=other)


def test_missing_tensors_of_a_text_encoder_are_named(base: Path, tmp_path: Path) -> None:
    tensors = texts(base, SD3_TEXTS, 0.0)
    tensors.pop(next(name for name in tensors if "clip_g" in name and name.endswith("fc1.bias")))
    save_file({**authors(base), **tensors}, tmp_path / "file.safetensors")
    with pytest.raises(ValueError, match=r"text_encoders.clip_g.*1 missing .*fc1.bias"):
        Pipeline.from_single_file(tmp_path / "file.safetensors", base=base)


def test_the_language_model_of_a_z_image_file_is_used(tmp_path: Path) -> None:
    base = z_image(tmp_path / "base")
    words = load_file(base / "text_encoder" / "model.safetensors")
    prefix = "text_encoders.qwen3_4b.transformer."
    words = {f"model.{name.removeprefix('model.')}": tensor for name, tensor in words.items()}  # as published
    words["model.embed_tokens.weight"] += 0.5
    state, original = network(base), Pipeline.from_pretrained(base).backbone.original
    fused = {name: name.replace(".to_q.", ".qkv.") for name in state if ".to_q." in name}
    split = {name.replace(".to_q.", f".to_{part}.") for name in fused for part in "qkv"}
    tensors = {NETWORK + name: tensor for name, tensor in state.items() if name not in split}
    tensors |= {NETWORK + name: original.join(name, state) for name in fused.values()}
    save_file({**tensors, **{prefix + name: tensor for name, tensor in words.items()}}, tmp_path / "all.safetensors")
    pipe = Pipeline.from_single_file(tmp_path / "all.safetensors", base=base)
    assert torch.equal(pipe.family.text.encoder.get_input_embeddings().weight, words["model.embed_tokens.weight"])
    assert not torch.equal(pipe(**CALL).latents, Pipeline.from_pretrained(base)(**CALL).latents)
