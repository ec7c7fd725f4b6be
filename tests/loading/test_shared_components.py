"""Components that embedded checkpoints share, and their export as complete folders."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sadaflow.loading.embedded
from sadaflow import Pipeline
from sadaflow.bench.speed.folders import checkpoint_folder
from sadaflow.bench.speed.sides import Theirs
from sadaflow.cli import main
from sadaflow.loading.embedded import EMBEDDED, component_folder, shared_components
from sadaflow.loading.export import export_checkpoint
from sadaflow.loading.json_file import read_object
from sadaflow.models import FluxConfig, FluxTransformer
from sadaflow.pipeline.inspection import inspect
from sadaflow.training.export.flux import MODEL_INDEX, index_with_references, write_flux_checkpoint
from sadaflow.training.export.t5_tokenizer import write_t5_tokenizer
from sadaflow.training.loops.flow import build
from support.flux import original_names, to_original

SHARED = ("text_encoder", "tokenizer", "vae")


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refer(root: Path, components: Any) -> None:
    """Put references into the model_index.json of a checkpoint."""
    index = json.loads((root / "model_index.json").read_text())
    index["_sadaflow"]["components"] = components
    (root / "model_index.json").write_text(json.dumps(index))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of tiny-sd and tiny-flux as the package's folder of checkpoints."""
    folder = tmp_path / "shelf"
    for name in ("tiny-sd", "tiny-flux"):
        shutil.copytree(EMBEDDED / name, folder / name)
    monkeypatch.setattr(sadaflow.loading.embedded, "EMBEDDED", folder)
    return folder


def test_no_file_of_the_package_is_stored_twice() -> None:
    found = {name: digest for name, digest in digests(EMBEDDED).items() if (EMBEDDED / name).stat().st_size > 4096}
    assert len(set(found.values())) == len(found) > 5


def test_an_export_has_all_files(tmp_path: Path) -> None:
    target = export_checkpoint("tiny-flux", tmp_path / "new" / "tiny-flux")
    expected = digests(EMBEDDED / "tiny-flux")
    for component in SHARED:
        shared = digests(EMBEDDED / "tiny-sd" / component)
        expected |= {f"{component}/{name}": digest for name, digest in shared.items()}
    found = digests(target)
    assert found.keys() == expected.keys()
    assert {name for name in found if found[name] != expected[name]} == {"model_index.json"}
    assert read_object(target / "model_index.json") == MODEL_INDEX | {
        name: list(value) for name, value in MODEL_INDEX.items() if isinstance(value, list)
    }
    assert [path.name for path in target.parent.iterdir()] == ["tiny-flux"]
    assert target.stat().st_mode & 0o777 == target.parent.stat().st_mode & 0o777


def test_an_export_draws_what_the_embedded_checkpoint_draws(tmp_path: Path) -> None:
    call: dict[str, Any] = {"steps": 3, "output": "tensor", "progress": False}
    target = export_checkpoint("tiny-flux", tmp_path / "tiny-flux")
    expected = Pipeline.from_pretrained("tiny-flux")("red apple", **call).images
    for offload in (None, "stream"):
        for model in (target, "tiny-flux"):
            assert Pipeline.from_pretrained(model, offload=offload)("red apple", **call).images.equal(expected)
    described = [[(part.name, part.kind, part.count, part.bytes) for part in inspect(model).components]
                 for model in (target, "tiny-flux")]  # fmt: skip
    assert described[0] == described[1]


@pytest.mark.parametrize("name", ["tiny-sd", "tiny-controlnet"])
def test_checkpoints_without_references_are_copied(tmp_path: Path, name: str) -> None:
    assert digests(export_checkpoint(name, tmp_path / "copy")) == digests(EMBEDDED / name)


def test_a_single_file_takes_shared_components_from_an_embedded_base(tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = read_object(EMBEDDED / "tiny-sd" / "text_encoder" / "config.json")
    t5 = read_object(EMBEDDED / "tiny-flux" / "text_encoder_2" / "config.json")
    config = FluxConfig(
        in_channels=16, num_layers=1, num_single_layers=1, num_attention_heads=1, guidance_embeds=True,
        joint_attention_dim=t5["d_model"], pooled_projection_dim=text["hidden_size"],
    )  # fmt: skip
    tensors = to_original(FluxTransformer(config).state_dict(), original_names(1, 1))
    file = tmp_path / "flux.safetensors"
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, file)
    folder = export_checkpoint("tiny-flux", tmp_path / "tiny-flux")
    call: dict[str, Any] = {"steps": 1, "height": 32, "width": 32, "output": "tensor", "progress": False}
    call |= {"max_sequence_length": 16, "solver": "euler", "accelerator": None}
    images = [Pipeline.from_single_file(file, base=base)("red apple", **call).images for base in ("tiny-flux", folder)]
    assert images[0].equal(images[1])


def test_the_bench_gives_diffusers_a_complete_folder(tmp_path: Path) -> None:
    folder = checkpoint_folder("tiny-flux", tmp_path / "cache", str(tmp_path), torch.float32)
    assert folder.name == "tiny-flux" and not (tmp_path / "cache").exists()
    assert Theirs(folder, torch.float32, torch.device("cpu")).pipe.vae.config.shift_factor == 0


@pytest.mark.parametrize("existing", ["folder", "file", "link"])
def test_nothing_is_exported_over_what_exists(tmp_path: Path, existing: str) -> None:
    target = tmp_path / "target"
    if existing == "folder":
        target.mkdir()
    elif existing == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="target exists; export to a folder that does not"):
        export_checkpoint("tiny-sd", target)
    assert list(tmp_path.iterdir()) == [target] and not (target.is_dir() and any(target.iterdir()))


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[Path] = []

    def copy(source: Path, target: Path) -> None:
        copied.append(target)
        target.write_bytes(b"")
        if len(copied) == 5:
            raise OSError("no space left on device")

    monkeypatch.setattr("sadaflow.loading.export.shutil.copyfile", copy)
    with pytest.raises(OSError, match="no space left"):
        export_checkpoint("tiny-flux", tmp_path / "target")
    assert len(copied) == 5 and list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_creates_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"

    def copy(source: Path, file: Path) -> None:
        file.write_bytes(source.read_bytes())
        target.mkdir(exist_ok=True)
        (target / "mine").write_text("kept")

    monkeypatch.setattr("sadaflow.loading.export.shutil.copyfile", copy)
    with pytest.raises(FileExistsError, match="target exists"):
        export_checkpoint("tiny-controlnet", target)
    assert [path.name for path in target.iterdir()] == ["mine"] and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["tiny", "../checkpoints/tiny-sd", "", ".", str(EMBEDDED / "tiny-sd")])
def test_only_embedded_checkpoints_are_exported(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not an embedded checkpoint: tiny-controlnet, tiny-flux, tiny-sd"):
        export_checkpoint(name, tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "tiny-flux"
    assert main(["export", "tiny-flux", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}: tiny-flux with all its components\n"
    assert (target / "vae" / "diffusion_pytorch_model.safetensors").is_file()
    assert main(["export", "tiny-flux", str(target)]) == 2
    assert "tiny-flux exists" in capsys.readouterr().err


def test_a_reference_outside_the_package_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(EMBEDDED / "tiny-flux", folder)
    message = "mine/model_index.json: _sadaflow.components is for checkpoints inside the package only.*sadaflow export"
    with pytest.raises(ValueError, match=message):
        Pipeline.from_pretrained(folder)
    refused = inspect(folder).refused
    assert refused is not None and "inside the package only" in refused
    assert component_folder(folder, "vae") == folder / "vae"


@pytest.mark.parametrize(
    "reference",
    [
        *("../secret/vae", "/etc/vae", "tiny-sd/../vae", "tiny-sd/..", "./vae", "tiny-sd", "tiny-sd/vae/..", ""),
        *("tiny-sd/vae\n", "tiny-sd\\vae", "tiny-sd/vae\0", 5, None, ["tiny-sd/vae"]),
    ],
)
def test_a_reference_cannot_lead_out_of_the_package(shelf: Path, reference: Any) -> None:
    (shelf.parent / "secret" / "vae").mkdir(parents=True)
    refer(shelf / "tiny-flux", {"vae": reference})
    with pytest.raises(ValueError, match="components.vae is not a reference of the form tiny-sd/vae"):
        Pipeline.from_pretrained("tiny-flux")


@pytest.mark.parametrize(
    ("components", "words"),
    [
        ({"vae": "tiny-sd/video"}, "refers to tiny-sd/video, which is not a folder of the package"),
        ({"vae": "tiny-flux/vae"}, "refers to tiny-flux/vae, which is not a folder"),  # references do not chain
        ({"transformer": "tiny-sd/unet"}, "transformer refers to tiny-sd/unet, but .*transformer exists"),
        (["tiny-sd/vae"], "is not an object of component names"),
    ],
)
def test_a_reference_that_cannot_be_followed_is_refused(shelf: Path, components: Any, words: str) -> None:
    refer(shelf / "tiny-flux", components)
    with pytest.raises(ValueError, match=words):
        Pipeline.from_pretrained("tiny-flux")


def test_training_writes_references_inside_the_package_and_copies_elsewhere(shelf: Path, tmp_path: Path) -> None:
    stored = json.loads((EMBEDDED / "tiny-flux" / "model_index.json").read_text("utf-8"))
    assert stored == json.loads(json.dumps(index_with_references("tiny-sd")))
    write_t5_tokenizer(["red apple", "green tree"], 1503, tmp_path / "tokenizer_2")
    models = build(1503)
    write_flux_checkpoint(shelf / "new", models, shelf / "tiny-sd", tmp_path / "tokenizer_2", "card")
    assert not any((shelf / "new" / component).exists() for component in SHARED)
    assert set(shared_components(shelf / "new", read_object(shelf / "new" / "model_index.json"))) == set(SHARED)
    write_flux_checkpoint(tmp_path / "out", models, shelf / "tiny-sd", tmp_path / "tokenizer_2", "card")
    assert all(digests(tmp_path / "out" / part) == digests(shelf / "tiny-sd" / part) for part in SHARED)
    for model in ("new", tmp_path / "out"):
        assert inspect(model).refused is None
