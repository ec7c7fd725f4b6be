"""The trained checkpoints of the package in our pipeline and in Diffusers'."""

import pytest
import torch
from diffusers import ControlNetModel, FluxPipeline, StableDiffusionControlNetPipeline

from sadaflow import Pipeline
from sadaflow.loading.embedded import EMBEDDED
from sadaflow.loading.export import export_checkpoint
from sadaflow.pipeline.inspection import inspect

PROMPTS = ["red apple", "a drawing of a cat face"]


def starts(channels: int) -> torch.Tensor:
    return torch.cat(
        [torch.randn(1, channels, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)]
    )


@torch.no_grad()
def test_tiny_flux_draws_what_diffusers_draws(tmp_path):
    folder = export_checkpoint("tiny-flux", tmp_path / "tiny-flux")
    reference = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    reference.set_progress_bar_config(disable=True)
    noise = starts(4)
    packed = reference._pack_latents(noise, 2, 4, 16, 16)
    expected = reference(
        PROMPTS, height=64, width=64, num_inference_steps=8, guidance_scale=3.5, latents=packed,
        max_sequence_length=16, output_type="pt",
    ).images  # fmt: skip
    pipe = Pipeline.from_pretrained("tiny-flux")
    ours = pipe(PROMPTS, steps=8, solver="euler", noise=noise, output="tensor", progress=False)
    torch.testing.assert_close(ours.images, expected, rtol=0, atol=1e-4)
    assert ours.stats.nfe == [8, 8]


@torch.no_grad()
def test_tiny_controlnet_steers_as_in_diffusers():
    net = ControlNetModel.from_pretrained(EMBEDDED / "tiny-controlnet", torch_dtype=torch.float32)
    reference = StableDiffusionControlNetPipeline.from_pretrained(
        EMBEDDED / "tiny-sd", controlnet=net, torch_dtype=torch.float32
    )
    reference.set_progress_bar_config(disable=True)
    control = torch.zeros(3, 64, 64)
    control[:, 16:48, 16] = control[:, 16:48, 47] = control[:, 16, 16:48] = control[:, 47, 16:48] = 1
    noise = starts(4)
    expected = reference(
        PROMPTS, image=control.expand(2, -1, -1, -1), num_inference_steps=8, guidance_scale=5.0, latents=noise,
        height=64, width=64, output_type="pt",
    ).images  # fmt: skip
    pipe = Pipeline.from_pretrained("tiny-sd", controlnet="tiny-controlnet")
    ours = pipe(PROMPTS, steps=8, noise=noise, control=control, guidance=5.0, output="tensor", progress=False)
    torch.testing.assert_close(ours.images, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["tiny-sd", "tiny-flux"])
def test_inspection_tells_what_the_pipeline_does(name):
    found, pipe = inspect(name), Pipeline.from_pretrained(name)
    assert (found.prediction, found.guidance) == (pipe.prediction, pipe.default_guidance)
    assert sum(part.count for part in found.components) < 13e6 and sum(part.bytes for part in found.components) < 30e6
    assert pipe.solver(found.solver, found.steps).n_evals == 50


@pytest.mark.parametrize("accelerator", ["sada", "auto"])
def test_tiny_flux_under_acceleration(accelerator):
    pipe = Pipeline.from_pretrained("tiny-flux")
    plain = pipe("red apple", output="tensor", progress=False)
    fast = pipe("red apple", output="tensor", progress=False, accelerator=accelerator)
    assert fast.stats.nfe[0] < 0.7 * plain.stats.nfe[0]
    assert (fast.images - plain.images).square().mean() < 1e-2


def test_a_skipped_step_skips_the_controlnet():
    pipe = Pipeline.from_pretrained("tiny-sd", controlnet="tiny-controlnet")
    calls = []
    pipe.backbone.nets[0].conv_in.register_forward_hook(lambda *_: calls.append(1))
    out = pipe("red apple", control=torch.zeros(3, 64, 64), accelerator="sada", progress=False, output="latent")
    assert len(calls) == out.stats.nfe[0] < 50
