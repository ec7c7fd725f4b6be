"""Folders of DDPM, DDIM and DiT pipelines: Diffusers' pictures, labels, and what is refused."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.accelerators import FirstBlock
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints_classes import BUTTERFLIES, DDPM_CELEBA, DDPM_CIFAR, write_dit, write_json, write_unconditional
from support.published.compare import Draws

STEPS = 6


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dit(tmp_path_factory.mktemp("classes") / "dit")


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unconditional(tmp_path_factory.mktemp("classes") / "ddpm", DDPM_CIFAR, at_root=True)


def reference(folder: Path, cls: Any) -> Tensor:
    """The picture of an unconditional pipeline of Diffusers'."""
    pipe = cls.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    made = pipe(generator=torch.Generator().manual_seed(3), num_inference_steps=STEPS, output_type="np").images
    return torch.from_numpy(made).permute(0, 3, 1, 2)


def ours(folder: Path) -> Tensor:
    pipe, draws = Pipeline.from_pretrained(folder), Draws(3)
    noise = draws(0, (0, 0), torch.empty(1, 3, 32, 32))
    pictures: Tensor = pipe(noise=noise, solver=pipe.solver(None, STEPS, noise=draws), output="tensor").images
    return pictures


def test_pictures_of_ddpm_and_ddim_are_those_of_diffusers(ddpm: Path, tmp_path: Path) -> None:
    folder = write_unconditional(tmp_path / "celeba", DDPM_CELEBA)
    assert (ours(folder) - reference(folder, diffusers.DDPMPipeline)).abs().max() < 1e-4
    assert (ours(ddpm) - reference(ddpm, diffusers.DDPMPipeline)).abs().max() < 1e-4
    index = json.loads((ddpm / "model_index.json").read_text())
    folder = write_unconditional(tmp_path / "ddim", DDPM_CIFAR, "DDIMPipeline")
    assert index["scheduler"] == ["diffusers", "DDPMScheduler"]  # DDIMPipeline reads it as DDIMScheduler's, and clips
    assert (ours(folder) - reference(folder, diffusers.DDIMPipeline)).abs().max() < 1e-4


def test_a_unet_with_class_labels_predicts_what_diffusers_predicts(tmp_path: Path) -> None:
    folder = write_unconditional(tmp_path / "labels", BUTTERFLIES)
    pipe = Pipeline.from_pretrained(folder)
    net = diffusers.UNet2DModel.from_pretrained(folder / "unet")
    x, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 3])
    with torch.no_grad():
        expected = net(x, 321, labels).sample
        found = pipe.backbone(x, 321.0, class_labels=labels)  # type: ignore[call-arg]
    assert (found - expected).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"sampled by class: give class_labels=, 0 to 3"):
        pipe(steps=2)
    out = pipe(class_labels=[0, 3, 3], seed=5, steps=2, output="tensor").images
    assert (out[1] - out[2]).abs().max() < 1e-3 < (out[0] - out[1]).abs().max()


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_pictures_of_dit_are_those_of_diffusers(dit: Path, guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = diffusers.DiTPipeline.from_pretrained(dit)
    pipe.set_progress_bar_config(disable=True)
    noise = initial_noise((4, 8, 8), [5, 6])
    monkeypatch.setattr("diffusers.pipelines.dit.pipeline_dit.randn_tensor", lambda *args, **how: noise)
    forward = pipe.transformer.forward
    # The published pipeline writes 1000 for the null label, which is 10 for ten labels.
    pipe.transformer.forward = lambda x, timestep, class_labels: forward(x, timestep, class_labels.clamp(max=10))
    made = pipe([1, 9], guidance_scale=guidance, num_inference_steps=STEPS, output_type="np").images
    out = Pipeline.from_pretrained(dit)(
        class_labels=["beast 1", "Tench"], seed=[5, 6], steps=STEPS, guidance=guidance, output="tensor"
    )
    assert (out.images - torch.from_numpy(made).permute(0, 3, 1, 2)).abs().max() < 1e-4


def test_accelerators_act_inside_both_networks(dit: Path, ddpm: Path) -> None:
    pipe = Pipeline.from_pretrained(dit)
    call: dict[str, Any] = {"class_labels": [1, 2], "seed": [0, 1], "steps": 20, "solver": "euler", "output": "latent"}
    plain = pipe(**call).latents
    for accelerator in (FirstBlock(threshold=0.3), "taylorseer", "teacache", "sada", "guidance"):
        fast = pipe(**call, accelerator=accelerator)
        assert max(fast.stats.nfe) < 20 and (fast.latents - plain).abs().max() < plain.std()
    alone = pipe(**{**call, "class_labels": 2, "seed": 1}, accelerator="sada").latents
    torch.testing.assert_close(alone[0], pipe(**call, accelerator="sada").latents[1], rtol=0, atol=1e-5)
    pixels = Pipeline.from_pretrained(ddpm)
    for accelerator in ("deepcache", "taylorseer"):
        assert pixels(steps=12, solver="euler", accelerator=accelerator, output="latent").stats.nfe[0] < 12
    with pytest.raises(ValueError, match="'first-block' needs a transformer"):
        pixels(steps=12, solver="euler", accelerator="first-block")


def test_numbers_of_samples_come_from_labels_seeds_or_noise(ddpm: Path, dit: Path) -> None:
    pipe = Pipeline.from_pretrained(ddpm)
    two = pipe(seed=[1, 2], steps=2, solver="euler", output="tensor").images
    assert two.shape == (2, 3, 32, 32) and not torch.equal(two[0], two[1])
    assert (pipe(seed=2, steps=2, solver="euler", output="tensor").images[0] - two[1]).abs().max() < 1e-3
    assert pipe(noise=torch.zeros(4, 3, 32, 32), steps=1, solver="euler", output="latent").latents.shape[0] == 4
    assert len(Pipeline.from_pretrained(dit)(class_labels=(1, 2, 3), steps=1, seed=0).images) == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"prompt": "a fox"}, "prompt='a fox': this checkpoint reads no prompt; .* by class"),
        ({"negative_prompt": "blur", "class_labels": 1}, "negative_prompt='blur': this checkpoint reads no prompt"),
        ({}, r"sampled by class: give class_labels=, 0 to 9, or a name"),
        ({"class_labels": 10}, "class_labels holds 10; the labels of this checkpoint are 0 to 9"),
        ({"class_labels": "tensch"}, "class_labels holds 'tensch', .* did you mean 'tench'"),
        ({"class_labels": [1, 2], "seed": [1, 2, 3]}, "3 seeds for 2 prompts"),
        ({"class_labels": 1.5}, "class_labels=1.5 is not a whole number"),
        ({"class_labels": 1, "true_guidance": 2}, "true_guidance=2.0 has no effect on a ClassConditional checkpoint"),
    ],
)
def test_calls_that_dit_refuses(dit: Path, call: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Pipeline.from_pretrained(dit)(**{"steps": 2, **call})


def test_what_pixels_and_prompts_refuse(ddpm: Path, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(ddpm)
    with pytest.raises(ValueError, match="guidance=3 has no effect on a Unconditional checkpoint"):
        pipe(guidance=3, steps=2)
    with pytest.raises(ValueError, match="class_labels=3 has no effect on a Unconditional checkpoint"):
        pipe(class_labels=3, steps=2)
    with pytest.raises(ValueError, match="tile=64 has no effect: this checkpoint samples pixels"):
        Pipeline.from_pretrained(ddpm, tile=64)
    with pytest.raises(ValueError, match="class_labels=3 has no effect on a StableDiffusion checkpoint"):
        Pipeline.from_pretrained()("fox", class_labels=3, steps=2)


@pytest.mark.parametrize(
    ("path", "field", "value", "words"),
    [
        ("unet/config.json", "time_embedding_type", "fourier", "fourier.* divide their output by sigma"),
        ("unet/config.json", "out_channels", 6, "a learned variance is not supported"),
        ("unet/config.json", "downsample_padding", 2, "downsample_padding=2 is not supported"),
        ("unet/config.json", "attention_head_dim", 7, "attention_head_dim=7 does not divide"),
        ("unet/config.json", "class_embed_type", "timestep", "by number"),
        ("transformer/config.json", "norm_type", "ada_norm_single", "the transformer of another model"),
        ("transformer/config.json", "out_channels", 5, "out_channels=5 must be in_channels=4, or twice as many"),
        ("model_index.json", "id2label", {"12": "fox"}, "id2label has an entry '12': 'fox'; labels are 0 to 9"),
    ],
)
def test_configs_that_are_refused_by_field(
    path: str, field: str, value: Any, words: str, dit: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    if path.startswith("unet"):
        write_unconditional(folder, DDPM_CIFAR)
    else:
        for file in dit.rglob("*.json"):
            write_json(folder / file.relative_to(dit), json.loads(file.read_text()))
    write_json(folder / path, {**json.loads((folder / path).read_text()), field: value})
    with pytest.raises(ValueError, match=words):
        Pipeline.from_pretrained(folder)
