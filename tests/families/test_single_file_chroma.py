"""Single files of Chroma: the authors' names, as Diffusers' converter reads them, with and without T5."""

from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_chroma_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.models.chroma import ChromaTransformer
from sadaflow.pipeline.inspection import inspect
from support.checkpoints_chroma import chroma

CALL = {"prompt": "a red apple", "height": 24, "width": 16, "steps": 2, "seed": 1, "output": "latent"}
GUIDE, NET, T5 = "distilled_guidance_layer", "model.diffusion_model.", "text_encoders.t5xxl.transformer."


def names(double: int, single: int, layers: int) -> list[str]:
    """The tensors of the published chroma-unlocked-v* files."""
    made = [f"{GUIDE}.{end}_proj.{leaf}" for end in ("in", "out") for leaf in ("weight", "bias")]
    for i in range(layers):
        made += [
            f"{GUIDE}.layers.{i}.{part}.{leaf}" for part in ("in_layer", "out_layer") for leaf in ("weight", "bias")
        ]
        made += [f"{GUIDE}.norms.{i}.scale"]
    modules = ["img_in", "txt_in", "final_layer.linear"]
    for i in range(double):
        for stream in ("img", "txt"):
            block = f"double_blocks.{i}.{stream}"
            modules += [f"{block}_attn.qkv", f"{block}_attn.proj", f"{block}_mlp.0", f"{block}_mlp.2"]
            made += [f"{block}_attn.norm.{which}_norm.scale" for which in ("query", "key")]
    for i in range(single):
        modules += [f"single_blocks.{i}.linear1", f"single_blocks.{i}.linear2"]
        made += [f"single_blocks.{i}.norm.{which}_norm.scale" for which in ("query", "key")]
    return made + [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]


def test_conversion_is_that_of_the_reference() -> None:
    """The reference splits at the published width, so the tensors have its rows; one column is enough."""
    rows = {"linear1": 7 * 3072, "qkv": 3 * 3072}
    torch.manual_seed(0)
    original = {
        name: torch.randn(next((count for part, count in rows.items() if part in name), 8), 1)
        for name in names(2, 2, 2)
    }
    theirs = convert_chroma_transformer_checkpoint_to_diffusers(dict(original))
    layout = ChromaTransformer.original
    ours = {part: x for name, value in original.items() for part, x in layout.convert(name, value).items()}
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(torch.equal(layout.join(name, ours), value) for name, value in original.items())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chroma(tmp_path_factory.mktemp("chroma") / "base")


def authors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint of `chroma` in the authors' layout; the test above compares it with Diffusers'."""
    return {name: ChromaTransformer.original.join(name, state) for name in names(1, 2, 2)}


@pytest.mark.parametrize("prefix", ["", NET])
def test_a_file_in_the_authors_names_loads_beside_a_base(base: Path, tmp_path: Path, prefix: str) -> None:
    state = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    changed = {name: tensor + 0.01 * torch.randn_like(tensor) for name, tensor in state.items()}
    tensors = {prefix + name: tensor for name, tensor in authors(changed).items()}
    save_file(tensors, tmp_path / "chroma.safetensors")
    pipe = Pipeline.from_single_file(tmp_path / "chroma.safetensors", base=base)
    ours = pipe.backbone.state_dict()
    assert ours.keys() == changed.keys() and all(torch.equal(ours[name], changed[name]) for name in changed)
    assert pipe(**CALL).latents.isfinite().all()
    found = inspect(str(tmp_path / "chroma.safetensors"))
    assert found.refused is None and "base=CHECKPOINT" in found.use
    assert any("no configs, no vae, no text_encoder:" in note for note in found.notes)


def test_scaled_fp8_and_the_hubs_names(base: Path, tmp_path: Path) -> None:
    state = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    scale = torch.tensor(0.25)
    scaled, expected = {f"{NET}scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}, {}
    for name, tensor in authors(state).items():
        if tensor.dim() < 2:
            scaled[NET + name] = expected[name] = tensor
            continue
        stored = (tensor / scale).to(torch.float8_e4m3fn)
        scaled |= {NET + name: stored, f"{NET}{name.removesuffix('weight')}scale_weight": scale}
        expected[name] = stored.float() * scale
    save_file({name: tensor.clone() for name, tensor in scaled.items()}, tmp_path / "fp8.safetensors")
    pipe = Pipeline.from_single_file(tmp_path / "fp8.safetensors", base=base)
    found = authors(pipe.backbone.state_dict())
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    hub = Pipeline.from_single_file(base / "transformer" / "diffusion_pytorch_model.safetensors", base=base)
    assert torch.equal(hub(**CALL).latents, Pipeline.from_pretrained(base)(**CALL).latents)


def test_t5_of_an_all_in_one_file_is_used(base: Path, tmp_path: Path) -> None:
    state = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    t5 = load_file(base / "text_encoder" / "model.safetensors")
    t5["encoder.final_layer_norm.weight"] += 1
    tensors = {NET + name: tensor for name, tensor in authors(state).items()}
    tensors |= {T5 + name: tensor for name, tensor in t5.items()}
    save_file(tensors, tmp_path / "all.safetensors")
    pipe = Pipeline.from_single_file(tmp_path / "all.safetensors", base=base)
    encoder = pipe.family.t5.encoder
    assert torch.equal(encoder.state_dict()["encoder.final_layer_norm.weight"], t5["encoder.final_layer_norm.weight"])
    assert not torch.equal(pipe(**CALL).latents, Pipeline.from_pretrained(base)(**CALL).latents)
