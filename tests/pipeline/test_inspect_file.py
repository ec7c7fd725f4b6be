"""`sadaflow inspect FILE` says what a single file holds, and what loading it finds."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sadaflow import Pipeline
from sadaflow.cli import main
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
    wide = write(tmp_path / "wide.safetensors", {**tensors, name: torch.zeros(32, 9, 3, 3)})
    assert "it loads, but cannot be sampled yet: it is an inpainting checkpoint" in describe(inspect(wide))
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
    path = write(tmp_path / "file.safetensors", {"joint_blocks.0.context_block.x": torch.zeros(1)})
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "Stable Diffusion 3 (not supported)" in said and "loads        no: Stable Diffusion 3 is not" in said
    write(path, {"x": torch.zeros(1)})
    assert "no: it is not of a known layout: it holds 1 tensors" in describe(inspect(path))
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    assert main(["inspect", str(path)]) != 0
    assert "GGUF" in capsys.readouterr().err
