"""`sadaflow inspect` reports of a checkpoint what loading it finds."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch

from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.loading.hub.locate import locate_checkpoint
from sadaflow.loading.hub.options import HubOptions
from sadaflow.pipeline.inspection import describe, inspect
from support.checkpoints import controlnet, stable_diffusion
from support.checkpoints_flux import flux
from support.hub_server import serve
from support.published.folders import FOLDERS
from support.published.write import write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = stable_diffusion(tmp_path_factory.mktemp("hub") / "sd21", "sd21", dtype=torch.float16)
    (root / "unet/diffusion_pytorch_model.bin").write_bytes(bytes(1000))
    return root


def test_a_folder_is_described_as_it_loads(folder: Path) -> None:
    found, pipe = inspect(folder), Pipeline.from_pretrained(folder)
    assert (found.kind, found.supported) == ("StableDiffusionPipeline", True)
    assert (found.solver, found.steps, found.guidance) == ("dpmpp2m", 25, 7.5)  # nothing in its files says otherwise
    parts = {part.name: part for part in found.components}
    assert set(parts) == {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
    for name, module in (("unet", pipe.backbone), ("vae", pipe.vae), ("text_encoder", pipe.family.text.encoder)):
        count = sum(parameter.numel() for parameter in module.parameters())
        assert parts[name].parameters == {"F16": count}
        assert parts[name].bytes == sum(path.stat().st_size for path in (folder / name).glob("*.safetensors"))
    assert parts["tokenizer"].count == 0
    assert (found.prediction, found.guidance) == (pipe.prediction, pipe.default_guidance)
    assert pipe.solver(found.solver, found.steps).n_evals == 25
    assert found.downloads == ()
    networks = pipe.family.networks.values()
    megabytes = [2e-6 * sum(weight.numel() for weight in network.parameters()) for network in networks]
    said = f"bfloat16 {sum(megabytes):.1f} MB, with --offload model {max(megabytes):.1f} MB at a time"
    assert said in describe(found)


@pytest.mark.parametrize(("style", "steps"), [("dev", 50), ("schnell", 4)])
def test_flux_whose_schedule_shifts_with_the_size(style: str, steps: int, tmp_path: Path) -> None:
    found = inspect(flux(tmp_path / style, style))
    assert (found.kind, found.supported, found.prediction) == ("FluxPipeline", True, "flow_prediction")
    assert (found.solver, found.steps, found.guidance) == ("euler", steps, 3.5)


def test_a_network_distilled_for_few_steps(tmp_path: Path) -> None:
    found = inspect(write_folder(tmp_path / "lcm", FOLDERS["lcm-dreamshaper-7"]))
    assert (found.solver, found.steps, found.guidance, found.refused) == ("lcm", 4, 8.5, None)


def test_an_id_is_described_without_its_weights(folder: Path, tmp_path: Path) -> None:
    with serve(model=folder) as hub:
        found = inspect("some/model", cache_dir=tmp_path, endpoint=hub.url)
        weights = [headers.get("range") for _, path, headers in hub.requests if path.endswith(".safetensors")]
        assert len(weights) == 3 and all(span and span.startswith("bytes=0-") for span in weights)
    local = inspect(folder)
    assert found.components == local.components and found.prediction == local.prediction
    sizes = {file.name: file.size for file in found.downloads}
    assert "unet/diffusion_pytorch_model.bin" not in sizes and "unet/diffusion_pytorch_model.safetensors" in sizes
    assert all(size == (folder / name).stat().st_size for name, size in sizes.items())
    assert not list(tmp_path.rglob("*.safetensors"))
    text = describe(found)
    assert f"download     {len(sizes)} files" in text and "unet/diffusion_pytorch_model.safetensors" in text


def test_a_repository_whose_weights_are_none(folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "copy"))
    weights = root / "unet/diffusion_pytorch_model.safetensors"
    with serve(model=root) as hub:
        for content in (b"PK\x03\x04" * 100, (10).to_bytes(8, "little") + b'{"x": [1]}', b"\xff" * 200):
            weights.write_bytes(content)
            with pytest.raises(ValueError, match="diffusion_pytorch_model.safetensors of 'some/model'"):
                inspect("some/model", cache_dir=tmp_path / "cache", endpoint=hub.url)
    with pytest.raises(ConnectionError, match="cannot be reached"):
        inspect("some/model", cache_dir=tmp_path / "cache", endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("file", "change", "refused"),
    [
        ("unet/config.json", {"quantization_config": {"quant_method": "x"}}, "quantization_config"),
        ("scheduler/scheduler_config.json", {"_class_name": "MyScheduler"}, "MyScheduler"),
        ("text_encoder/config.json", {"vocab_size": 20}, "id 20"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": -1}, "model_max_length"),
        ("vae/config.json", {"latent_channels": 8}, "latent_channels=8"),
        ("model_index.json", {"_class_name": "PixArtSigmaPipeline"}, "PixArtSigmaPipeline"),
        ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "transformer is None"),
        ("model_index.json", {"unet": ["diffusers", "UNet2DModel"]}, "UNet2DModel"),
        ("unet/config.json", {"layers_per_block": 3}, "missing"),
        ("unet/config.json", {"decay": 0.9999, "sample_size": 8.0}, None),
        ("unet/config.json", {"new_switch": False}, None),
        ("scheduler/scheduler_config.json", {"_class_name": "DDPMScheduler", "new_switch": None}, None),
    ],
)
def test_what_loading_would_refuse_or_ignore_is_said(
    file: str, change: dict[str, object], refused: str | None, folder: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "copy"))
    path = root / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with serve(model=root) as hub:
        remote = inspect("some/model", cache_dir=tmp_path / "cache", endpoint=hub.url)
        options = HubOptions(cache_dir=tmp_path / "cache", endpoint=hub.url)
        locate_checkpoint("some/model", options, weights=False)
        assert not list((tmp_path / "cache").rglob("*.safetensors"))
    found = inspect(root)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if refused is None:
            Pipeline.from_pretrained(root)
            assert found.refused is None and "loads        yes" in describe(found)
        else:
            with pytest.raises(ValueError, match=refused) as error:
                Pipeline.from_pretrained(root)
            assert found.refused == str(error.value) and f"loads        no: {found.refused}" in describe(found)
    assert set(found.notes) == {str(one.message) for one in caught}
    if "new_switch" in change:
        assert "new_switch" in describe(found)
    assert (remote.refused is None) == (found.refused is None) and len(remote.notes) == len(found.notes)


def test_a_single_component(folder: Path, tmp_path: Path) -> None:
    found = inspect(controlnet(tmp_path / "net", folder))
    assert (found.kind, found.supported, found.scheduler) == ("ControlNetModel", True, None)
    assert found.components[0].count > 0


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    for word in ("StableDiffusionPipeline", "UNet2DConditionModel", "F16", "v_prediction", "--solver dpmpp2m --steps"):
        assert word in out
    assert main(["inspect", "no/such/folder"]) == 2
    assert "neither a folder" in capsys.readouterr().err
