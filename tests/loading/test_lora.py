"""LoRA in every naming: merged weights against the formula, names against Diffusers' converters, exact unloading."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
from safetensors.torch import save_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.models import FluxTransformer
from support.checkpoints_flux import flux
from support.checkpoints_original import original
from support.flux import original_names, to_original
from support.lora import CONV, OUT, QUERY, RANK, SCALE, factors

SGM = {
    QUERY: "input_blocks.1.1.transformer_blocks.0.attn2.to_q",
    OUT: "input_blocks.1.1.transformer_blocks.0.attn2.to_out.0",
    CONV: "output_blocks.5.0.in_layers.2",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return original(tmp_path_factory.mktemp("sd15"), "sd15")[0]


@pytest.fixture
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux(tmp_path_factory.mktemp("flux") / "dev", "dev", num_layers=1, num_single_layers=1)


def product(up: Tensor, down: Tensor) -> Tensor:
    return (up.flatten(1).double() @ down.flatten(1).double()).reshape(len(up), *down.shape[1:])


def snapshot(pipe: Pipeline) -> dict[str, Tensor]:
    modules: Any = pipe.family.adaptable.items()
    return {f"{part}.{name}": x.clone() for part, module in modules for name, x in module.state_dict().items()}


def spelled(dialect: str, layer: str) -> tuple[str, str, str]:
    """Keys of the down and up factors, and of alpha."""
    joined = layer.replace(".", "_")
    bases = {
        "kohya": (f"lora_unet_{joined}", ".lora_down.weight", ".lora_up.weight"),
        "kohya, original names": (f"lora_unet_{SGM[layer].replace('.', '_')}", ".lora_down.weight", ".lora_up.weight"),
        "diffusers": (f"unet.{layer}", ".lora_A.weight", ".lora_B.weight"),
        "diffusers, down and up": (f"unet.{layer}", ".lora.down.weight", ".lora.up.weight"),
        "peft": (f"base_model.model.{layer}", ".lora_A.weight", ".lora_B.weight"),
        "diffusion_model": (f"diffusion_model.{SGM[layer]}", ".lora_A.weight", ".lora_B.weight"),
    }
    base, down, up = bases[dialect]
    return base + down, base + up, base + ".alpha"


@pytest.mark.parametrize(
    "dialect", ["kohya", "kohya, original names", "diffusers", "diffusers, down and up", "peft", "diffusion_model"]
)
def test_merged_weights_are_the_formula_in_every_dialect(dialect: str, pipe: Pipeline, tmp_path: Path) -> None:
    before, tensors, expected = snapshot(pipe), {}, {}
    for seed, layer in enumerate((QUERY, OUT, CONV)):
        weight = before[f"unet.{layer}.weight"]
        up, down = factors(weight.shape, seed)
        for key, tensor in zip(spelled(dialect, layer), (down, up, torch.tensor(2.0)), strict=True):
            tensors[key] = tensor
        expected[f"unet.{layer}.weight"] = weight.double() + SCALE * 2.0 / RANK * product(up, down)
    save_file(tensors, tmp_path / "lora.safetensors")
    handle = pipe.load_lora(tmp_path / "lora.safetensors", scale=SCALE)
    after = snapshot(pipe)
    assert {name for name in after if not torch.equal(after[name], before[name])} == set(expected)
    for name, weight in expected.items():
        torch.testing.assert_close(after[name].double(), weight, rtol=1e-6, atol=1e-6)
    pipe.unload_lora(handle)
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(pipe).items())
    with pytest.raises(ValueError, match="not loaded"):
        pipe.unload_lora(handle)


def test_names_are_those_of_the_reference(pipe: Pipeline, tmp_path: Path) -> None:
    """Every attention and feed-forward layer of the U-Net and the text encoder, as kohya spells it."""
    tensors = {}
    for part, prefix in (("unet", "lora_unet_"), ("text_encoder", "lora_te_")):
        for seed, (name, layer) in enumerate(pipe.family.adaptable[part].named_modules()):
            if isinstance(layer, torch.nn.Linear) and ("attn" in name or "ff" in name or "mlp" in name):
                path = f"text_model.{name}" if part == "text_encoder" and not name.startswith("text_") else name
                up, down = factors(layer.weight.shape, seed)
                key = prefix + path.replace(".", "_")
                tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}
                tensors[f"{key}.alpha"] = torch.tensor(float(RANK))
    theirs, _ = _convert_non_diffusers_lora_to_diffusers(dict(tensors))
    assert len(theirs) == len(tensors) * 2 // 3 > 40
    save_file(tensors, tmp_path / "kohya.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in theirs.items()}, tmp_path / "diffusers.safetensors")
    states = []
    for name in ("kohya", "diffusers"):
        handle = pipe.load_lora(tmp_path / f"{name}.safetensors")
        states.append(snapshot(pipe))
        pipe.unload_lora(handle)
    before = snapshot(pipe)
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert sum(not torch.equal(tensor, before[name]) for name, tensor in states[0].items()) == len(tensors) // 3


def test_adapters_add_up_and_go_in_any_order(pipe: Pipeline, tmp_path: Path) -> None:
    before, states = snapshot(pipe), []
    for seed in (1, 2):
        up, down = factors(before[f"unet.{QUERY}.weight"].shape, seed)
        save_file(
            {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up}, tmp_path / f"{seed}.safetensors"
        )
    handles = [pipe.load_lora(tmp_path, 0.5, f"{seed}.safetensors") for seed in (1, 2)]
    both = snapshot(pipe)[f"unet.{QUERY}.weight"]
    pipe.unload_lora(handles[0])
    states.append(snapshot(pipe))
    pipe.unload_lora(handles[1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(pipe).items())
    pipe.load_lora(tmp_path / "2.safetensors", 0.5)
    states.append(snapshot(pipe))
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    weight, second = before[f"unet.{QUERY}.weight"], states[0][f"unet.{QUERY}.weight"]
    up, down = factors(weight.shape, 1)
    torch.testing.assert_close((both - second).double(), 0.5 * product(up, down), rtol=1e-4, atol=1e-5)


def test_alpha_of_the_metadata_counts(pipe: Pipeline, tmp_path: Path) -> None:
    weight = snapshot(pipe)[f"unet.{QUERY}.weight"]
    up, down = factors(weight.shape, 5)
    tensors = {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up}
    settings = {"unet.r": RANK, "unet.lora_alpha": 12}
    save_file(tensors, tmp_path / "lora.safetensors", metadata={"lora_adapter_metadata": json.dumps(settings)})
    pipe.load_lora(tmp_path)
    expected = weight.double() + 12 / RANK * product(up, down)
    torch.testing.assert_close(snapshot(pipe)[f"unet.{QUERY}.weight"].double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("form", ["lora_unet_{}.lora_down.weight", "diffusion_model.{}.lora_A.weight"])
def test_fused_projections_of_flux_are_taken_apart(form: str, dev: Path, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(dev)
    before, tensors, fused = snapshot(pipe), {}, {}
    state = {name.removeprefix("transformer."): tensor for name, tensor in before.items() if "transformer." in name}
    layers = ["double_blocks.0.img_attn.qkv", "double_blocks.0.txt_attn.qkv", "single_blocks.0.linear1"]
    layers += ["final_layer.adaLN_modulation.1", "double_blocks.0.txt_mlp.2"]
    whole = to_original(state, [name for name in original_names(1, 1) if name.removesuffix(".weight") in layers])
    for seed, layer in enumerate(layers):
        up, down = factors(whole[f"{layer}.weight"].shape, seed)
        key = form.format(layer.replace(".", "_") if form.startswith("lora") else layer)
        tensors |= {key: down, key.replace("down", "up").replace("lora_A", "lora_B"): up}
        changed = whole[f"{layer}.weight"].double() + product(up, down)
        fused |= FluxTransformer.original.convert(f"{layer}.weight", changed)
    save_file(tensors, tmp_path / "flux.safetensors")
    handle = pipe.load_lora(tmp_path / "flux.safetensors")
    after = snapshot(pipe)
    assert {name for name in after if not torch.equal(after[name], before[name])} == {f"transformer.{n}" for n in fused}
    for name, weight in fused.items():
        torch.testing.assert_close(after[f"transformer.{name}"].double(), weight, rtol=1e-6, atol=1e-5)
    pipe.unload_lora(handle)
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(pipe).items())


def test_what_cannot_be_merged_is_refused_and_changes_nothing(pipe: Pipeline, tmp_path: Path) -> None:
    before, path = snapshot(pipe), tmp_path / "lora.safetensors"
    up, down = factors(before[f"unet.{QUERY}.weight"].shape, 1)
    good = {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up}
    kohya = f"lora_unet_{QUERY.replace('.', '_')}"

    def refused(tensors: dict[str, Tensor], match: str) -> None:
        save_file(tensors, path)
        with pytest.raises(ValueError, match=match):
            pipe.load_lora(path)

    strangers = {f"unet.nowhere.{index}.lora_A.weight": down.clone() for index in range(4)}
    refused({**good, **strangers}, r"4 of 6 keys.*nowhere.0.*nowhere.1.*nowhere.2")
    refused({}, "0 of 0 keys")
    refused({f"unet.{QUERY}.lora_A.weight": down}, "down alone")
    refused({**good, f"unet.{QUERY}.lora_B.weight": up[:-1].clone()}, "another model")
    refused({**good, f"{kohya}.dora_scale": up.clone()}, "dora_scale alone.*LoRA")
    refused({**good, f"unet.{QUERY}.lora_B.weight": up * torch.nan}, "lora_B.*NaN")
    refused({f"{kohya}.lokr_w1": up}, "LoKr has lokr_w2, or")
    refused({f"{kohya}.hada_w1_a": up}, "hada_w1_a alone.*LoHa")
    save_file(good, tmp_path / "second.safetensors")
    with pytest.raises(ValueError, match="weight_name="):
        pipe.load_lora(tmp_path)
    with pytest.raises(ValueError, match="leads out"):
        pipe.load_lora(tmp_path, weight_name="../lora.bin")
    with pytest.raises(ValueError, match="finite"):
        pipe.load_lora(tmp_path / "second.safetensors", scale=float("nan"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(pipe).items())


@pytest.mark.parametrize(
    ("metadata", "match"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "holds a list"),
        ('{"unet.lora_alpha": "8"}', "lora_alpha='8'"),
        ('{"unet.lora_alpha": NaN}', "lora_alpha=nan"),
        ('{"unet.alpha_pattern": [2]}', "alpha_pattern holds a list"),
        ('{"unet.alpha_pattern": {"to_q": "2"}}', r"alpha_pattern\['to_q'\]='2'"),
        ('{"unet.alpha_pattern": {"(a+)+": 2}}', r"alpha_pattern has '\(a\+\)\+'"),
        ('{"unet.r": 2, "unet.lora_alpha": 2}', "rank 3, but the settings say 2"),
        ('{"unet.peft_type": "VERA"}', "peft_type='VERA' is not supported"),
        ('{"unet.init_lora_weights": "pissa_niter_4"}', "pissa_niter_4.*path_initial_model"),
        ('{"unet.use_dora": true}', "no lora_magnitude_vector"),
        ('{"lora_alpha": "4"}', "lora_alpha='4'"),
    ],
)
def test_settings_that_are_wrong_name_the_file(
    metadata: str, match: str, pipe: Pipeline, tmp_path: Path
) -> None:
    up, down = factors(snapshot(pipe)[f"unet.{QUERY}.weight"].shape, 1)
    tensors = {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up}
    save_file(tensors, tmp_path / "lora.safetensors", {"lora_adapter_metadata": metadata})
    with pytest.raises(ValueError, match=f"lora.safetensors.*{match}"):
        pipe.load_lora(tmp_path / "lora.safetensors")
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="adapter_config.json is not valid JSON"):
        pipe.load_lora(tmp_path / "adapter_model.safetensors")


def test_factors_are_matrices_of_floats(pipe: Pipeline, tmp_path: Path) -> None:
    up, down = factors(snapshot(pipe)[f"unet.{QUERY}.weight"].shape, 1)
    names = [f"unet.{QUERY}.lora_A.weight", f"unet.{QUERY}.lora_B.weight"]
    path, other = tmp_path / "lora.safetensors", f"unet.{QUERY}.lora.up.weight"
    for tensors, match in (
        ({names[0]: down[:0], names[1]: up[:, :0]}, "rank 1 or more"),
        ({names[0]: down[0], names[1]: up}, "rank 1 or more"),
        ({names[0]: down.int(), names[1]: up}, "lora_A.* holds I32, expected floats"),
        ({names[0]: down, names[1]: up, other: 2 * up}, "same factor"),
        ({names[0]: down, names[1]: up, f"unet.{QUERY}.alpha": torch.ones(2)}, "alpha of .* expected one number"),
    ):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        with pytest.raises(ValueError, match=f"lora.safetensors.*{match}"):
            pipe.load_lora(path)


def test_factors_in_eight_bits_are_the_numbers_that_they_stand_for(pipe: Pipeline, tmp_path: Path) -> None:
    up, down = (tensor.to(torch.float8_e4m3fn) for tensor in factors(snapshot(pipe)[f"unet.{QUERY}.weight"].shape, 1))
    merged = []
    for dtype in (torch.float8_e4m3fn, torch.float32):
        tensors = {f"unet.{QUERY}.lora_A.weight": down.to(dtype), f"unet.{QUERY}.lora_B.weight": up.to(dtype)}
        save_file(tensors, tmp_path / "lora.safetensors")
        handle = pipe.load_lora(tmp_path / "lora.safetensors")
        merged.append(snapshot(pipe)[f"unet.{QUERY}.weight"])
        pipe.unload_lora(handle)
    assert torch.equal(*merged)
