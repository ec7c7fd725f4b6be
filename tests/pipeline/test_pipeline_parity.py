"""Whole pipelines against Diffusers' StableDiffusionPipeline on random checkpoints: latents and images."""

from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionPipeline

from sadaflow import Pipeline
from sadaflow.families import Request
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints import stable_diffusion

PROMPTS = ["a red apple", "grinning face!"]
SCHEDULERS = {"euler": EulerDiscreteScheduler, "dpmpp2m": DPMSolverMultistepScheduler}


@pytest.fixture(scope="module", params=["sd15", "sd21"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("parity") / request.param, request.param)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("solver", ["euler", "dpmpp2m"])
@pytest.mark.parametrize("size", [(None, None), (40, 24)])
def test_latents_and_images_match(folder: Path, solver: str, size: tuple[int | None, int | None]) -> None:
    reference = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    reference.set_progress_bar_config(disable=True)
    reference.scheduler = SCHEDULERS[solver].from_config(reference.scheduler.config)
    pipe = Pipeline.from_pretrained(folder)
    shape = (4, (size[0] or 32) // 2, (size[1] or 32) // 2)
    noise = initial_noise(shape, [3, 4])
    arguments = {"num_inference_steps": 12, "guidance_scale": 4.0, "height": size[0], "width": size[1]}
    negative = ["blurry", "blurry"]

    latents: list[torch.Tensor] = []

    def keep(pipeline: object, step: int, timestep: int, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        latents.append(tensors["latents"])
        return tensors

    images = reference(
        PROMPTS, negative_prompt=negative, latents=noise, output_type="pt", callback_on_step_end=keep, **arguments
    ).images
    ours = pipe(
        PROMPTS,
        negative_prompt="blurry",
        steps=12,
        solver=solver,
        guidance=4.0,
        height=size[0],
        width=size[1],
        seed=[3, 4],
        output="tensor",
    )
    assert len(latents) == 12
    assert relative(ours.latents, latents[-1]) < 1e-4
    assert relative(ours.images, images) < 1e-4
    assert ours.stats.nfe == [12.0, 12.0]


def test_without_guidance_there_is_no_negative_branch(folder: Path) -> None:
    reference = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    reference.set_progress_bar_config(disable=True)
    pipe = Pipeline.from_pretrained(folder)
    noise = initial_noise((4, 16, 16), [3])
    theirs = reference("a red apple", latents=noise, num_inference_steps=8, guidance_scale=1.0, output_type="latent")[0]
    ours = pipe("a red apple", noise=noise, steps=8, guidance=1.0, output="latent")
    assert relative(ours.latents, theirs) < 1e-4
    assert pipe.family.condition(Request(["a"], guidance=1.0)).negative is None


def test_stochastic_solvers_give_a_sample_its_own_noise_in_any_batch(folder: Path) -> None:
    pipe = Pipeline.from_pretrained(folder)
    arguments = {"steps": 6, "solver": "euler-ancestral", "output": "latent"}
    both = pipe(PROMPTS, seed=[3, 4], **arguments).latents
    alone = pipe(PROMPTS[1], seed=4, **arguments).latents
    assert relative(alone, both[1:]) < 1e-4
    assert relative(pipe(PROMPTS[1], seed=5, **arguments).latents, alone) > 0.1
