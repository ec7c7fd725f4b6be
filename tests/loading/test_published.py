"""Published checkpoints: small copies with the published JSON load and give the latents of Diffusers' pipelines."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from sadaflow import Pipeline
from sadaflow.families import FAMILIES
from sadaflow.loading.text_config import encoder_fields
from support.published.compare import our_latents, reference_latents
from support.published.folders import FOLDERS
from support.published.networks import CONTROLNETS
from support.published.real import read_json, read_real, real_folders, real_root
from support.published.write import write_controlnet, write_folder, write_json

needs_real = pytest.mark.skipif(real_root() is None, reason="no published configs beside the repository")
SCALED = {folder["model_index.json"]["_class_name"] for folder in FOLDERS.values()}
ENCODERS = {  # the class that is built
    "Qwen2_5_VLForConditionalGeneration": "Qwen2_5_VLModel",
    "Qwen3ForCausalLM": "Qwen3Model",
}
BASES = {768: "sd-1.5", 1024: "sd-2.1-base", 2048: "sdxl-base"}


def check(folder: Path, **arguments: Any) -> None:
    ours, reference = our_latents(folder, **arguments), reference_latents(folder, **arguments)
    bound = 2e-5 if "lcm" in folder.name else 1e-5  # LCM's large steps give 1.06e-5 on some processors
    assert (ours - reference).abs().max() < bound * reference.abs().max()


@pytest.mark.parametrize("name", FOLDERS)
def test_latents_are_those_of_diffusers(name: str, tmp_path: Path) -> None:
    check(write_folder(tmp_path / name, FOLDERS[name]))


def test_an_old_fine_tune_is_sampled_at_the_size_it_was_trained_at(tmp_path: Path) -> None:
    """StableDiffusionPipeline takes 64 latent positions for a smaller `sample_size` written before Diffusers 0.9."""
    for version, expected in (("0.6.0", 512), ("0.8.0.dev0", 512), ("0.9.0", 64), ("0.25.0.dev0", 64)):
        folder = write_folder(tmp_path / version, FOLDERS["sd-1.5"])
        config = {**read_json(folder / "unet/config.json"), "_diffusers_version": version}
        write_json(folder / "unet/config.json", config)
        optional = {"safety_checker": None, "feature_extractor": None}
        reference = StableDiffusionPipeline.from_pretrained(folder, **optional)
        assert reference.unet.config.sample_size * reference.vae_scale_factor == expected
        assert Pipeline.from_pretrained(folder).family.default_size == (expected, expected)


@pytest.mark.parametrize("name", CONTROLNETS)
def test_latents_with_a_controlnet_are_those_of_diffusers(name: str, tmp_path: Path) -> None:
    base = write_folder(tmp_path / "base", FOLDERS[BASES[CONTROLNETS[name]["cross_attention_dim"]]])
    net = write_controlnet(tmp_path / "net", CONTROLNETS[name])
    check(base, controlnet=net)
    assert (our_latents(base, controlnet=net) - our_latents(base)).abs().max() > 0.01


@needs_real
@pytest.mark.parametrize("model", real_folders(), ids=lambda path: path.name)
def test_real_folders_load_or_are_refused_by_class_before_weights(model: Path, tmp_path: Path) -> None:
    files = read_real(model)
    kind = files["model_index.json"]["_class_name"]
    if kind in SCALED:
        check(write_folder(tmp_path / model.name, files))
        return
    for path, content in files.items():  # no weights: what is refused is refused before they are looked for
        write_json(tmp_path / path, content)
    if kind in FAMILIES:
        with pytest.raises(FileNotFoundError, match="holds no vocabulary"):  # the other files are read before
            Pipeline.from_pretrained(tmp_path)
        for component, entry in files["model_index.json"].items():
            if component.startswith("text_encoder"):
                encoder_fields(files[f"{component}/config.json"], ENCODERS.get(entry[-1], entry[-1]))
        return
    with pytest.raises(ValueError, match=f"model_index.json names the class {kind}.*supported: .*FluxPipeline"):
        Pipeline.from_pretrained(tmp_path)


@needs_real
@pytest.mark.parametrize("model", real_folders("config.json"), ids=lambda path: path.name)
def test_real_components_load_or_are_refused_by_class(model: Path, tmp_path: Path) -> None:
    config = read_json(model / "config.json")
    kind = config.get("_class_name")
    base = write_folder(tmp_path / "base", FOLDERS[BASES.get(config.get("cross_attention_dim", 0), "sd-1.5")])
    if kind == "ControlNetModel":
        check(base, controlnet=write_controlnet(tmp_path / "net", config))
        return
    write_json(tmp_path / "net" / "config.json", config)
    with pytest.raises(ValueError, match=f"{kind}.*(controlnet= (takes|works with)|checkpoint takes)"):
        Pipeline.from_pretrained(base, controlnet=tmp_path / "net")


def test_a_scheduler_replaces_the_checkpoints_own(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sd", FOLDERS["sd-1.5"])
    other = {**FOLDERS["sd-2.1"]["scheduler/scheduler_config.json"], "prediction_type": "epsilon"}
    write_json(tmp_path / "other.json", other)
    write_json(tmp_path / "sub" / "scheduler_config.json", other)
    write_json(tmp_path / "whole" / "scheduler" / "scheduler_config.json", other)
    expected = reference_latents(folder, scheduler=other)
    for source in (other, tmp_path / "other.json", str(tmp_path / "sub"), tmp_path / "whole"):
        found = our_latents(folder, scheduler=source)
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    for source, words in ((3, "is not a config"), (tmp_path, "no scheduler_config.json"), ("x/", "neither a file")):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            Pipeline.from_pretrained(folder, scheduler=source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spelling",
    [
        ("model.safetensors.index.fp16.json", "model.fp16-{:05}-of-00002.safetensors"),
        ("model.safetensors.fp16.index.json", "model-{:05}-of-00002.fp16.safetensors"),
        ("model.safetensors.index.fp16.json", "model-{:05}-of-00002.fp16.safetensors"),
    ],
)
@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_shards_of_a_variant_in_every_published_spelling(
    spelling: tuple[str, str], component: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "sd", FOLDERS["sd-1.5"])
    expected = our_latents(folder)
    stem = "model" if component == "text_encoder" else "diffusion_pytorch_model"
    index, shard = (name.replace("model", stem, 1) for name in spelling)
    whole = folder / component / f"{stem}.safetensors"
    tensors = load_file(whole)
    shard_of = {name: shard.format(1 + number % 2) for number, name in enumerate(tensors)}
    for file in set(shard_of.values()):
        part = {name: tensor for name, tensor in tensors.items() if shard_of[name] == file}
        save_file(part, folder / component / file, metadata={"format": "pt"})
    (folder / component / index).write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    save_file({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, whole)
    assert torch.equal(our_latents(folder, variant="fp16"), expected)


def test_nothing_large_is_read_before_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sd", FOLDERS["sd-1.5"])
    for weights in folder.rglob("*.safetensors"):
        weights.write_bytes(b"not read")
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    with pytest.raises(ValueError, match="tokenizer"):
        Pipeline.from_pretrained(folder)
