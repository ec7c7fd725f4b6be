"""Flux.1 in the authors' layout: against Diffusers' conversion, converted back and forth, and loaded from a file."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file as load_safetensors
from safetensors.torch import save_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.families import FAMILIES
from sadaflow.loading.single_file.flux import load
from sadaflow.loading.single_file.layout import SingleFile
from sadaflow.loading.strict import Loader
from sadaflow.models import FluxConfig, FluxTransformer
from sadaflow.models.original_layout import split_fused
from support.checkpoints_flux import flux
from support.flux import original_names, to_original
from support.single_files import write


def test_conversion_is_that_of_the_reference() -> None:
    """The reference splits at Flux's own width, so the tensors have its rows; one column is enough."""
    rows = {"linear1": 7 * 3072, "qkv": 3 * 3072}

    def tensor(name: str) -> Tensor:
        return torch.randn(next((count for part, count in rows.items() if part in name), 8), 1)

    torch.manual_seed(0)
    original = {name: tensor(name) for name in original_names(2, 2)}
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(original))
    convert = FluxTransformer.original.convert
    ours = {target: part for name, value in original.items() for target, part in convert(name, value).items()}
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    back = to_original(ours, list(original))
    assert all(torch.equal(back[name], value) for name, value in original.items())


def test_fused_projections_split_and_join() -> None:
    fused = torch.randn(14, 3)
    parts = split_fused(fused, (1, 1, 1, 4))
    assert [len(part) for part in parts] == [2, 2, 2, 8]
    assert torch.equal(torch.cat(parts), fused)
    with pytest.raises(ValueError, match="14 rows"):
        split_fused(fused, (1, 1, 1))


def load_file(path: Path, prefix: str = "") -> FluxTransformer:
    loader = Loader(torch.float32, torch.device("cpu"))
    network = load(SingleFile(path).section(prefix), loader)
    loader.fill()
    return network


@pytest.fixture(scope="module")
def transformer() -> FluxTransformer:
    torch.manual_seed(0)
    config = FluxConfig(
        num_layers=1,
        num_single_layers=2,
        num_attention_heads=1,
        joint_attention_dim=16,
        pooled_projection_dim=12,
        guidance_embeds=True,
    )
    return FluxTransformer(config).eval()


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_file_gives_the_same_transformer(transformer: FluxTransformer, prefix: str, tmp_path: Path) -> None:
    original = to_original(transformer.state_dict(), original_names(1, 2))
    tensors = {f"{prefix}{name}": tensor.clone() for name, tensor in original.items()}
    if prefix:
        tensors["vae.decoder.conv_in.weight"] = torch.zeros(1)
    save_file(tensors, tmp_path / "flux.safetensors")
    loaded = load_file(tmp_path / "flux.safetensors", prefix)
    assert (loaded.config.num_layers, loaded.config.num_single_layers, loaded.config.guidance_embeds) == (1, 2, True)
    state = loaded.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in transformer.state_dict().items())
    assert set(state) == set(transformer.state_dict())


def test_what_does_not_fit_is_named(transformer: FluxTransformer, tmp_path: Path) -> None:
    path = tmp_path / "flux.safetensors"
    original = to_original(transformer.state_dict(), original_names(1, 2))

    def refused(change: dict[str, Tensor | None], *words: str) -> None:
        kept = {name: tensor.clone() for name, tensor in {**original, **change}.items() if tensor is not None}
        save_file(kept, path)
        with pytest.raises(ValueError) as caught:
            load_file(path)
        assert all(word in str(caught.value) for word in words), caught.value

    refused({"single_blocks.1.linear2.bias": None}, "1 missing", "single_transformer_blocks.1.proj_out.bias")
    refused({"single_blocks.1.lora.weight": torch.zeros(1)}, "1 unexpected", "single_blocks.1.lora.weight")
    refused({"txt_in.bias": torch.zeros(3)}, "misshaped", "txt_in.bias", "(3,)")
    refused({"img_in.weight": None}, "img_in.weight", "no Flux.1 transformer")
    refused({"input_blocks.0.0.weight": torch.zeros(1)}, "1 unexpected", "input_blocks.0.0.weight")
    with pytest.raises(ValueError, match="64 wide"):
        tensors = {"img_in.weight": torch.zeros(64, 64), "single_blocks.0.norm.query_norm.scale": torch.zeros(64)}
        save_file(tensors, path)
        load_file(path)


ONE_HEAD = {"attention_head_dim": 128, "num_attention_heads": 1, "axes_dims_rope": (16, 56, 56)}
CALL: dict[str, Any] = {"steps": 2, "height": 32, "width": 32, "max_sequence_length": 16, "output": "latent"}


@pytest.mark.parametrize(
    ("style", "channels", "words"),
    [
        ("dev", 64, None),  # FLUX.1 dev and Krea
        ("schnell", 64, None),
        ("dev", 128, "reads a control picture, such as edges or depth beside the prompt: give control="),
    ],
)
def test_transformers_alone_load_beside_a_base(style: str, channels: int, words: str | None, tmp_path: Path) -> None:
    """Under the authors' names, and under the Hub's; those that read a picture say so and are not sampled."""
    base = flux(tmp_path / "base", style, num_layers=1, num_single_layers=1, **ONE_HEAD)
    theirs = FluxTransformer2DModel(
        in_channels=channels, out_channels=64, num_layers=1, num_single_layers=1, joint_attention_dim=32,
        pooled_projection_dim=32, guidance_embeds=style == "dev", **ONE_HEAD,
    )  # fmt: skip
    state = theirs.state_dict()
    names = [name for name in original_names(1, 1) if style == "dev" or not name.startswith("guidance_in")]
    authors = to_original(state, names)
    scales = {f"{name.removesuffix('weight')}scale_weight": torch.tensor(0.5) for name in authors if "qkv.w" in name}
    halved = {n: x * (2 if f"{n.removesuffix('weight')}scale_weight" in scales else 1) for n, x in authors.items()}
    files = {
        "authors": authors,
        "hub": state,
        "prefixed": {f"model.diffusion_model.{name}": tensor for name, tensor in authors.items()},
        "scaled": {**halved, **scales, "scaled_fp8": torch.zeros(0)},
    }
    for name, tensors in files.items():
        path = write(tmp_path / f"{name}.safetensors", tensors)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pipe = Pipeline.from_single_file(path, base=base)
        assert all(torch.equal(tensor, state[key]) for key, tensor in pipe.backbone.state_dict().items()), name
        assert pipe.scheduler_config["use_dynamic_shifting"] == (style == "dev")
        notes = [str(each.message) for each in caught if "cannot be sampled" in str(each.message)]
        assert notes == []
        if words is None:
            assert pipe("a", **CALL).latents.shape == (1, 16, 16, 16)
            continue
        with pytest.raises(ValueError, match=words):
            pipe("a", **CALL)


def test_kontext_is_told_from_dev_by_its_base_or_its_name(tmp_path: Path) -> None:
    """Its tensors are those of dev: "flux1-kontext-dev.safetensors", "flux1-dev-kontext_fp8_scaled.safetensors"."""
    dev = flux(tmp_path / "dev", "dev", num_layers=1, num_single_layers=1, **ONE_HEAD)
    kontext = tmp_path / "kontext"
    shutil.copytree(dev, kontext)
    index = kontext / "model_index.json"
    index.write_text(index.read_text("utf-8").replace('"FluxPipeline"', '"FluxKontextPipeline"'), "utf-8")
    state = load_safetensors(dev / "transformer/diffusion_pytorch_model.safetensors")
    authors = to_original(state, original_names(1, 1))
    for name, base, expected in (
        ("mine", dev, "FluxPipeline"),
        ("mine", kontext, "FluxKontextPipeline"),
        ("flux1-kontext-dev", dev, "FluxKontextPipeline"),
        ("flux1-dev-kontext_fp8_scaled", dev, "FluxKontextPipeline"),
    ):
        pipe = Pipeline.from_single_file(write(tmp_path / f"{name}.safetensors", authors), base=base)
        assert type(pipe.family) is FAMILIES[expected]
