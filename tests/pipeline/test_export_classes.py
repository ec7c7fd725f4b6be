"""`pipe.export` of networks that read no prompt: DiT, DDPM and DDIM."""

import json
from pathlib import Path

import diffusers
import pytest
import torch

from sadaflow import Pipeline
from sadaflow.models import unet_2d_config
from sadaflow.models.unet.config_2d import unet_2d_dict
from support.checkpoints_classes import BUTTERFLIES, DDPM_CELEBA, DDPM_CIFAR, write_dit, write_unconditional


def test_dit_keeps_the_names_of_its_classes(tmp_path: Path) -> None:
    source = Pipeline.from_pretrained(write_dit(tmp_path / "dit"))
    folder = source.export(tmp_path / "out")
    again = Pipeline.from_pretrained(folder)
    call = {"class_labels": ["tench", 3], "steps": 3, "seed": [1, 2], "output": "latent"}
    assert torch.equal(again(**call).latents, source(**call).latents)
    theirs = diffusers.DiTPipeline.from_pretrained(folder)
    assert theirs.get_label_ids(["tench"]) == [9]
    x, labels = torch.randn(2, 4, 4, 4), torch.tensor([1, 3])
    with torch.no_grad():
        predicted = theirs.transformer(x, timestep=torch.tensor([321, 321]), class_labels=labels).sample
        ours = again.backbone(x, 321.0, class_labels=labels)
    assert (ours - predicted[:, : ours.shape[1]]).abs().max() < 1e-5 * predicted.abs().max()


@pytest.mark.parametrize("class_name", ["DDPMPipeline", "DDIMPipeline"])
def test_a_network_on_pixels(tmp_path: Path, class_name: str) -> None:
    source = Pipeline.from_pretrained(write_unconditional(tmp_path / "in", DDPM_CIFAR, class_name))
    folder = source.export(tmp_path / "out")
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == class_name
    assert not (folder / "vae").exists()
    call = {"steps": 2, "seed": [1, 2], "output": "latent"}
    assert torch.equal(Pipeline.from_pretrained(folder)(**call).latents, source(**call).latents)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        predicted = diffusers.DiffusionPipeline.from_pretrained(folder).unet(x, 321).sample
        ours = source.backbone(x, 321.0)
    assert (ours - predicted).abs().max() < 1e-5 * predicted.abs().max()


@pytest.mark.parametrize("published", [DDPM_CIFAR, DDPM_CELEBA, BUTTERFLIES])
def test_configs_are_read_back_as_they_were(published: dict[str, object]) -> None:
    config = unet_2d_config(published)
    assert unet_2d_config(json.loads(json.dumps(unet_2d_dict(config)))) == config
