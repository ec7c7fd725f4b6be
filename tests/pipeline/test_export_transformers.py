"""Exported folders of transformers on latents: read back here to the bit, and by Diffusers with the same weights."""

import json
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from sadaflow import Pipeline
from support.checkpoints_chroma import chroma
from support.checkpoints_flux2 import flux2_dev, flux2_klein
from support.checkpoints_qwen_image import qwen_image
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image

CALL = {"height": 32, "width": 16, "steps": 2, "seed": [1, 2], "output": "latent"}
MAKERS: dict[str, Callable[[Path], Path]] = {
    "chroma": chroma,
    "flux2": lambda folder: flux2_klein(folder, distilled=True),
    "qwen_image": qwen_image,
    "sd3": lambda folder: sd3(folder, "3.5 medium"),
    "sd3 without T5": lambda folder: sd3(folder, "3 medium", t5=False),
    "z_image": z_image,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_with_a_merged_lora(name: str, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(MAKERS[name](tmp_path / "in"))
    layer = "layers.0.attention.to_q" if name == "z_image" else "transformer_blocks.0.attn.to_q"
    rows, columns = pipe.backbone.get_submodule(layer).weight.shape
    torch.manual_seed(9)
    factors = {"A": torch.randn(2, columns) / 4, "B": torch.randn(rows, 2) / 4}
    save_file({f"transformer.{layer}.lora_{x}.weight": y for x, y in factors.items()}, tmp_path / "lora.safetensors")
    pipe.load_lora(tmp_path / "lora.safetensors")
    folder = pipe.export(tmp_path / "out")
    prompts = ["a red fox!", "the sea"]
    assert torch.equal(Pipeline.from_pretrained(folder)(prompts, **CALL).latents, pipe(prompts, **CALL).latents)
    absent = {"text_encoder_3": None, "tokenizer_3": None} if name == "sd3 without T5" else {}
    theirs = diffusers.DiffusionPipeline.from_pretrained(folder, **absent)
    before, after = (json.loads((tmp_path / side / "model_index.json").read_text()) for side in ("in", "out"))
    assert type(theirs).__name__ == after["_class_name"] == before["_class_name"]
    networks = {**dict(pipe.family.adaptable), "vae": pipe.vae}
    for part, network in networks.items():
        ours, loaded = network.state_dict(), getattr(theirs, part).state_dict()
        assert {key: loaded[key].shape for key in ours} == {key: x.shape for key, x in ours.items()}, part
        assert all(torch.equal(loaded[key], tensor) for key, tensor in ours.items()), part
    assert after.get("is_distilled") == before.get("is_distilled")
    assert str(tmp_path) not in "".join(path.read_text() for path in folder.rglob("*.json"))


def test_half_a_language_model_is_not_exported(tmp_path: Path) -> None:
    """Of FLUX.2 dev's text encoder the half that reads pictures is not loaded."""
    flux2_dev(tmp_path / "in")
    with pytest.raises(ValueError, match="Flux2Dev pipelines are not exported; supported: Chroma, .*, Flux2Klein"):
        Pipeline.from_pretrained(tmp_path / "in").export(tmp_path / "out")
    assert not (tmp_path / "out").exists()
