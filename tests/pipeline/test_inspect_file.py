"""`sadaflow inspect FILE` says what a single file holds, and what loading it finds."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.loading.layouts.adapters import ADAPTERS, EMBEDDINGS
from sadaflow.loading.layouts.row import Layout
from sadaflow.pipeline.inspection import describe, inspect
from support.checkpoints import controlnet
from support.checkpoints_original import NETWORK, original
from support.single_files import only, scaled, variant, write


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    return {style: original(tmp_path_factory.mktemp(style), style) for style in ("sd15", "sd21", "sdxl")}


@pytest.mark.parametrize(("style", "name"), [("sd15", "1.x"), ("sdxl", "XL")])
def test_a_whole_checkpoint_is_described_as_it_loads(
    style: str, name: str, made: dict[str, tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = made[style]
    found, pipe = inspect(file), Pipeline.from_single_file(file, tokenizer=folder)
    assert (found.kind, found.supported, found.refused) == (f"Stable Diffusion {name}, authors' names", True, None)
    parts = {part.name: part for part in found.components}
    texts = {"text_encoder", "text_encoder_2"} if style == "sdxl" else {"text_encoder"}
    assert set(parts) == {"unet", "vae", *texts}
    assert parts["unet"].count == sum(weight.numel() for weight in pipe.backbone.parameters())
    assert parts["unet"].bytes == 4 * parts["unet"].count
    assert (found.scheduler, found.prediction) == (pipe.scheduler_config["_class_name"], pipe.prediction)
    assert found.guidance == pipe.default_guidance
    assert main(["inspect", str(file)]) == 0
    said = capsys.readouterr().out
    assert "loads        yes, by Pipeline.from_single_file(FILE)" in said and "tokenizer=CHECKPOINT" in said


def test_what_a_file_lacks_or_leaves_open_is_said(made: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    _, file = made["sd21"]
    assert "prediction='v_prediction'" in str(inspect(file).refused)
    network = variant(made["sdxl"][1], tmp_path / "unet.safetensors", only(NETWORK))
    said = describe(inspect(network))
    assert "base=CHECKPOINT supplies" in said and "it holds no vae, no text_encoder" in said
    tensors = load_file(made["sd15"][1])
    name = f"{NETWORK}input_blocks.0.0.weight"
    wide = write(tmp_path / "wide.safetensors", {**tensors, name: torch.zeros(32, 7, 3, 3)})
    assert "it loads, but cannot be sampled yet: it is an upscaler" in describe(inspect(wide))
    fp8 = inspect(write(tmp_path / "fp8.safetensors", scaled(tensors)))
    assert fp8.refused is None and "F32+F8_E4M3" in describe(fp8)
    del tensors[f"{NETWORK}out.2.bias"]
    assert "1 missing (conv_out.bias)" in str(inspect(write(tmp_path / "cut.safetensors", tensors)).refused)


def test_parts_alone(made: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    folder, _ = made["sdxl"]
    weights = "diffusion_pytorch_model.safetensors"
    found = inspect(folder / "vae" / weights)
    assert (found.kind, found.refused) == ("autoencoder, the Hub's names", None)
    assert found.use == "vae=FILE, beside a checkpoint"
    found = inspect(controlnet(tmp_path / "net", folder) / weights)
    assert (found.kind, found.refused) == ("ControlNet, the Hub's names", None)
    assert found.use == "controlnet=FILE, beside a checkpoint"


def test_files_that_do_not_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "file.safetensors", {"double_layers.0.attn.w1q.weight": torch.zeros(1)})
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "AuraFlow (not supported)" in said and "loads        no: AuraFlow is not" in said
    write(path, {"x": torch.zeros(1)})
    assert "no: it is not of a known layout: it holds 1 tensors" in describe(inspect(path))
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    assert main(["inspect", str(path)]) != 0
    assert "GGUF" in capsys.readouterr().err


ADAPTER_FILES: dict[str, tuple[dict[str, tuple[int, ...]], str, str]] = {
    "kohya, XL": (
        {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 2048)},
        "LoRA of kohya, sgm names + LoRA of kohya", "looks made for Stable Diffusion XL",
    ),
    "DoRA in kohya's names": (
        {"lora_unet_down_blocks_0_x.lora_up.weight": (4, 4), "lora_unet_down_blocks_0_x.dora_scale": (4, 1)},
        "DoRA + LoRA of kohya", "arXiv 2402.09353",
    ),
    "LoHa": ({"lora_unet_mid_block_x.hada_w1_a": (4, 4)}, "LoHa", "Stable Diffusion 1.x or 2.x"),
    "PEFT": ({"base_model.model.x.lora_A.weight": (4, 4)}, "LoRA of PEFT", "there is no adapter_config.json"),
    "LoKr of PEFT": ({"base_model.model.x.lokr_w1": (4, 4)}, "LoKr + LoRA of PEFT", "do not tell which model"),
    "BFL": ({"single_blocks.0.linear1.lora_A.weight": (4, 4)}, "LoRA under the layers' own names", "for Flux.1"),
    "FLUX.2 dev, own names": (
        {"diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight": (4, 6144)}, "LoRA of ComfyUI", "for FLUX.2$",
    ),
    "FLUX.2 klein 4B, own names": (
        {"diffusion_model.single_blocks.3.linear2.lora_A.weight": (4, 12288)}, "LoRA of ComfyUI", "made for FLUX.2$",
    ),
    "FLUX.2 klein, kohya": (
        {"lora_unet_double_blocks_0_img_mlp_0.lora_up.weight": (18432, 4)}, "LoRA of kohya, Flux.1", "made for FLUX.2$",
    ),
    "FLUX.2, Diffusers": (
        {"transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj.lora_A.weight": (4, 3072)},
        "LoRA of Diffusers, ai-toolkit", "made for FLUX.2$",
    ),
    "Flux.1, own names": (
        {"diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight": (4, 3072),
         "diffusion_model.double_blocks.0.img_mlp.2.lora_A.weight": (4, 12288),
         "diffusion_model.single_blocks.0.linear2.lora_A.weight": (4, 15360)},
        "LoRA of ComfyUI", "made for Flux.1$",
    ),
    "Wan": ({"diffusion_model.blocks.3.self_attn.q.lora_A.weight": (4, 4)}, "LoRA of ComfyUI", "made for Wan"),
    "DyLoRA": ({"lora_unet_x.up_list.0": (4, 4)}, "DyLoRA (not supported)", "no: it holds all ranks at once"),
    "LLLite": ({"lllite_unet_x.down.0.weight": (4, 4)}, "ControlNet-LLLite (not supported)", "no: it modifies"),
    "IP-Adapter": ({"ip_adapter.1.to_k_ip.weight": (4, 4)}, "IP-Adapter (not supported)", "no: IP-Adapters read"),
    "a stray key": (
        {"lora_unet_x.lora_up.weight": (4, 4), "stray": (4, 4)}, "LoRA of kohya", "no: .*1 of 2 keys .*'stray'",
    ),
    "kohya's inversion": ({"emb_params": (2, 768)}, "textual inversion of kohya", "made for Stable Diffusion 1.x"),
    "XL's inversion": ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "textual inversion of XL", "yes, by pipe.load_emb"),
    "Diffusers' inversion": ({"<cat>": (1, 1024)}, "textual inversion of 1024", "made for Stable Diffusion 2.x"),
}  # fmt: skip


@pytest.mark.parametrize("name", ADAPTER_FILES)
def test_adapters_and_textual_inversions(name: str, tmp_path: Path) -> None:
    shapes, kind, words = ADAPTER_FILES[name]
    path = write(tmp_path / "file.safetensors", {key: torch.zeros(shape) for key, shape in shapes.items()})
    said = describe(inspect(path))
    assert said.startswith(f"{path}: {kind}")
    assert re.search(words, said, re.MULTILINE)


@pytest.mark.parametrize(
    ("metadata", "model"),
    [
        ({"ss_base_model_version": "chroma"}, "Chroma"),
        ({"modelspec.architecture": "chroma/lora"}, "Chroma"),
        ({"ss_base_model_version": "flux2_klein_4b"}, "FLUX.2"),
        ({"ss_base_model_version": "flux1", "modelspec.architecture": "flux-1-dev/lora"}, "Flux.1"),
        ({"ss_learning_rate": "0.0001"}, "Flux.1"),
    ],
)
def test_metadata_tells_models_with_the_same_layers_apart(
    metadata: dict[str, str], model: str, tmp_path: Path
) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": torch.zeros(4, 3072)}, path, metadata)
    assert re.search(f"made for {model}$", describe(inspect(path)), re.MULTILINE)


@pytest.mark.parametrize("row", [*ADAPTERS, *EMBEDDINGS], ids=lambda row: row.name)
def test_every_dialect_is_named_with_its_source(row: Layout, tmp_path: Path) -> None:
    width = row.shape[2] if row.shape else 4
    names = [sign.replace("*", "0") for sign in row.signs]
    found = inspect(write(tmp_path / "file.safetensors", {name: torch.zeros(1, width) for name in names}))
    assert row.name in found.kind.split(" + ") and f"{row.name}: {row.source}" in found.notes
    assert (found.refused is None) == (row.refused is None), found.refused
