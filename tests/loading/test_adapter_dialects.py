"""Key patterns of published adapter files: they change the layers that Diffusers' converters name, or are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import (
    _convert_kohya_flux_lora_to_diffusers,
    _convert_xlabs_flux_lora_to_diffusers,
)
from safetensors.torch import save_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.loading.layouts.adapters import ADAPTERS
from sadaflow.loading.layouts.row import Layout
from sadaflow.loading.layouts.table import adapters_of
from support.checkpoints_flux import flux
from support.checkpoints_original import original
from support.lora import compare, factors, merged, snapshot

RANK, ALPHA = 3, 2.0
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
T5 = "encoder.block.0.layer.0.SelfAttention.q"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = flux(tmp_path_factory.mktemp("flux") / "dev", "dev", num_layers=1, num_single_layers=1)
    return Pipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.from_pretrained(original(tmp_path_factory.mktemp("sdxl"), "sdxl")[0])


def pair(rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(RANK, columns, generator=generator), torch.randn(rows, RANK, generator=generator)


def by_names_of_diffusers(pipe: Pipeline, converted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights W + B A for the keys that Diffusers' converters give."""
    before, expected = snapshot(pipe), {}
    for key, down in converted.items():
        if ".lora_A." not in key and "lora.down." not in key:
            continue
        layer = key.split(".lora")[0].replace(".to_q_lora.down.weight", ".q_proj")
        name = f"{layer}.weight"
        if name not in before:  # transformers 5 leaves out "text_model."
            name = name.replace("text_model.", "")
        up = converted[key.replace(".lora_A.", ".lora_B.").replace(".down.", ".up.")]
        expected[name] = before[name] + up @ down
    return expected


def xlabs(width: int) -> dict[str, Tensor]:
    shapes = {"double_blocks.0.processor.qkv_lora1": (3, 1), "double_blocks.0.processor.qkv_lora2": (3, 1)}
    shapes |= {"double_blocks.0.processor.proj_lora1": (1, 1), "double_blocks.0.processor.proj_lora2": (1, 1)}
    shapes |= {"single_blocks.0.processor.qkv_lora": (3, 1), "single_blocks.0.processor.proj_lora": (1, 5)}
    tensors = {}
    for seed, (name, (rows, columns)) in enumerate(shapes.items()):
        down, up = pair(rows * width, columns * width, seed)
        tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    return tensors


def test_xlabs(dev: Pipeline, tmp_path: Path) -> None:
    tensors = xlabs(dev.backbone.get_submodule("proj_out").in_features)
    save_file(tensors, tmp_path / "lora.safetensors")
    expected = by_names_of_diffusers(dev, _convert_xlabs_flux_lora_to_diffusers(dict(tensors)))
    assert len(expected) == 12
    compare(merged(dev, tmp_path / "lora.safetensors"), expected)


def fluxes(dev: Pipeline, base: Callable[[str], str], layers: dict[str, tuple[int, int]]) -> dict[str, Tensor]:
    width, tensors = dev.backbone.get_submodule("proj_out").in_features, {}
    for seed, (name, (rows, columns)) in enumerate(layers.items()):
        down, up = pair(rows * width, columns * width, seed)
        key = base(name)
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(ALPHA)}
    return tensors


def clip(dev: Pipeline, key: str) -> dict[str, Tensor]:
    width = dev.family.adaptable["text_encoder"].config.hidden_size  # type: ignore[union-attr]
    down, up = pair(int(width), int(width), 9)
    return {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(ALPHA)}


def test_comfyui_prefixes_on_flux(dev: Pipeline, tmp_path: Path) -> None:
    layers = {"double_blocks.0.img_attn.qkv": (3, 1), "double_blocks.0.txt_mlp.0": (4, 1)}
    layers |= {"single_blocks.0.linear2": (1, 5)}
    tensors = fluxes(dev, "diffusion_model.{}".format, layers) | clip(dev, f"text_encoders.clip_l.transformer.{TEXT}")
    save_file(tensors, tmp_path / "lora.safetensors")
    found = merged(dev, tmp_path / "lora.safetensors")
    assert len(found) == 6
    compare(found, by_names_of_diffusers(dev, _convert_kohya_flux_lora_to_diffusers(dict(tensors))))


def test_onetrainer_on_flux(dev: Pipeline, tmp_path: Path) -> None:
    layers = {"transformer_blocks.0.attn.add_k_proj": (1, 1), "single_transformer_blocks.0.attn.to_v": (1, 1)}
    tensors = fluxes(dev, lambda name: f"lora_transformer_{name.replace('.', '_')}", layers)
    tensors |= clip(dev, f"lora_te1_{TEXT.replace('.', '_')}")
    save_file(tensors, tmp_path / "lora.safetensors")
    expected = by_names_of_diffusers(dev, _convert_kohya_flux_lora_to_diffusers(dict(tensors)))
    compare(merged(dev, tmp_path / "lora.safetensors"), expected)


@pytest.mark.parametrize(
    "key", ["lora_te3_", "lora_te2_", "text_encoders.t5xxl.transformer.", "t5.", "text_encoder_2."]
)
def test_t5_of_flux(key: str, dev: Pipeline, tmp_path: Path) -> None:
    """Diffusers leaves these out; here they count."""
    weight = snapshot(dev)[f"text_encoder_2.{T5}.weight"]
    down, up = pair(*weight.shape, 3)
    layer = key + (T5 if key.endswith(".") else T5.replace(".", "_"))
    save_file({f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}, tmp_path / "lora.safetensors")
    compare(merged(dev, tmp_path / "lora.safetensors"), {f"text_encoder_2.{T5}.weight": weight + up @ down})


@pytest.mark.parametrize(
    "keys",
    [
        ("text_encoder.", "text_encoder_2."),
        ("lora_te1_", "lora_te2_"),
        ("text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer."),
        ("clip_l.", "clip_g."),
    ],
)
def test_both_text_encoders_of_xl(keys: tuple[str, str], xl: Pipeline, tmp_path: Path) -> None:
    tensors, expected, before = {}, {}, snapshot(xl)
    for seed, (component, prefix) in enumerate(zip(("text_encoder", "text_encoder_2"), keys, strict=True)):
        own = (name for name in before if name.startswith(component + "."))
        (name,) = (name for name in own if name.endswith("0.self_attn.q_proj.weight"))
        down, up = pair(*before[name].shape, seed)
        layer = prefix + (TEXT if prefix.endswith(".") else TEXT.replace(".", "_"))
        tensors |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
        expected[name] = before[name] + up @ down
    save_file(tensors, tmp_path / "lora.safetensors")
    compare(merged(xl, tmp_path / "lora.safetensors"), expected)


def test_a_layer_of_both_text_encoders_must_name_its_own(xl: Pipeline, tmp_path: Path) -> None:
    key = f"base_model.model.{TEXT}"
    tensors = {f"{key}.lora_A.weight": torch.ones(2, 4), f"{key}.lora_B.weight": torch.ones(4, 2)}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a.safetensors.*both text encoders.*text_encoder_2\. in front"):
        xl.load_lora(tmp_path / "a.safetensors")


def test_one_layer_spelled_twice(dev: Pipeline, tmp_path: Path) -> None:
    """It counts once if the factors are equal, and is refused if they are not."""
    path, layer = tmp_path / "lora.safetensors", "transformer_blocks.0.attn.to_q"
    weight = snapshot(dev)[f"transformer.{layer}.weight"]
    down, up = pair(*weight.shape, 1)
    one = {f"transformer.{layer}.lora_A.weight": down, f"transformer.{layer}.lora_B.weight": up}
    joined = f"lora_transformer_{layer.replace('.', '_')}"
    two = {f"{joined}.lora_down.weight": down.clone(), f"{joined}.lora_up.weight": up.clone()}
    save_file({**one, **two}, path)
    compare(merged(dev, path), {f"transformer.{layer}.weight": weight + up @ down})
    fused_up, fused_down = factors(torch.Size([3 * len(weight), weight.shape[1]]), 1)
    fused = {
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": fused_down,
        "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": fused_up,
    }
    scaled = {**two, f"{joined}.alpha": torch.tensor(1.0)}
    for other in (scaled, {**two, f"{joined}.lora_up.weight": 2 * up}, fused):
        save_file({**one, **other}, path)
        with pytest.raises(ValueError, match=r"lora.safetensors.*spellings of one layer, and their factors differ"):
            dev.load_lora(path)


W, L, QKV = 8, "lora_unet_", "double_blocks.0.img_attn.qkv"
U = "model.diffusion_model."
REFUSED = {
    f"{QKV}.norm.key_norm.scale {QKV}.lora_A.weight": "control LoRA of FLUX.1 Depth and Canny.*128 channels",
    "base_model.model.x.vera_lambda_b": "VeRA.*merge it",
    f"{L}x.up_list.0": "DyLoRA.*extract",
    "lllite_unet_x.down.0.weight": "ControlNet-LLLite",
    "ip_adapter.1.to_k_ip.weight": "IP-Adapter.*not supported",
    "base_model.model.x.modules_to_save.weight": "trained in full",
    "emb_params": "not an adapter.*load_embedding",
    f"{U}input_blocks.0.0.weight {U}output_blocks.0.0.weight": "not an adapter.*from_single_file",
    f"{QKV}.weight double_blocks.0.img_attn.norm.key_norm.scale": "not an adapter.*Flux.1.*from_single_file",
    "control_model.input_blocks.0.0.weight": "not an adapter.*ControlNet",
    "decoder.conv_in.weight": "not an adapter.*autoencoder",
    "something.else": "not an adapter.*no known dialect",
}
OTHERS = {
    f"{L}input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": ((4, 2048), "Stable Diffusion XL"),
    f"{L}down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": ((4, 768), "Stable .* 1.x"),
    "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.lora_A.weight": ((4, 1024), "Stable Diffusion 2.x"),
    f"{L}joint_blocks_3_context_block_attn_qkv.lora_down.weight": ((4, 1536), "Stable Diffusion 3"),
    "diffusion_model.blocks.3.self_attn.q.lora_A.weight": ((4, 1536), "Wan"),
    "transformer.transformer_blocks.0.img_mlp.net.2.lora_A.weight": ((4, 64), "Qwen-Image"),
    "lora_te2_text_model_encoder_layers_31_mlp_fc1.lora_down.weight": ((4, 1280), "Stable Diffusion XL"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_is_left_out_is_refused_by_its_name(key: str, dev: Pipeline, tmp_path: Path) -> None:
    save_file({name: torch.ones(W, W) for name in key.split()}, tmp_path / "file.safetensors")
    with pytest.raises(ValueError, match=f"file.safetensors.*{REFUSED[key]}") as refused:
        dev.load_lora(tmp_path / "file.safetensors")
    assert "another model?" not in str(refused.value)


@pytest.mark.parametrize("key", OTHERS)
def test_an_adapter_for_another_model_is_recognized(key: str, dev: Pipeline, tmp_path: Path) -> None:
    shape, model = OTHERS[key]
    save_file({key: torch.ones(shape)}, tmp_path / "file.safetensors")
    with pytest.raises(ValueError, match=rf"1 of 1 keys.*another model\?.*looks like an adapter for {model}"):
        dev.load_lora(tmp_path / "file.safetensors")


def test_an_adapter_of_another_width_is_recognized(xl: Pipeline, tmp_path: Path) -> None:
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    down, up = pair(64, 768, 0)
    save_file({f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=r"lora.safetensors.*\(64, 768\).*another model.*Stable Diffusion 1.x"):
        xl.load_lora(tmp_path / "lora.safetensors")


def test_the_control_lora_of_flux_is_named_by_its_input(dev: Pipeline, tmp_path: Path) -> None:
    rows, columns = snapshot(dev)["transformer.x_embedder.weight"].shape
    down, up = pair(rows, 2 * columns, 0)
    tensors = {"transformer.x_embedder.lora_A.weight": down, "transformer.x_embedder.lora_B.weight": up}
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=r"x_embedder.*control LoRA of FLUX.1 Depth or Canny"):
        dev.load_lora(tmp_path / "lora.safetensors")


@pytest.mark.parametrize("row", ADAPTERS, ids=lambda row: row.name)
def test_each_row_of_the_table_recognizes_its_own_example(row: Layout) -> None:
    assert row in adapters_of({name.replace("*", "0"): (1,) for name in row.signs})


def test_docs_loading_names_each_row_of_adapters() -> None:
    text = (Path(__file__).parents[2] / "docs" / "loading.md").read_text("utf-8")
    listed = text.partition("## Adapters")[2].partition("## Measured")[0]
    assert [row.name for row in ADAPTERS if f"| {row.name} |" not in listed] == []
