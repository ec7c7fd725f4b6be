"""Calls with a picture against Diffusers' image-to-image pipelines: latents, images and evaluations."""

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from sadaflow import Pipeline
from support.checkpoints import controlnet, stable_diffusion, stable_diffusion_xl
from support.checkpoints_flux import flux
from support.pictures import generators, picture, quiet, relative

THEIRS: dict[str, Any] = {"negative_prompt": "blurry", "guidance_scale": 4.0, "output_type": "latent"}
OURS: dict[str, Any] = {"negative_prompt": "blurry", "guidance": 4.0, "output": "latent", "posterior": "sample"}
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "timestep_spacing": "leading"}),
    "dpmpp2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp3m": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "deis": ("DEISMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("img2img") / "sd", "sd15")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return quiet(diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(folder, safety_checker=None))


def schedule(pipeline: Any, folder: Path, solver: str) -> None:
    """Give a Diffusers pipeline the scheduler of this solver, with the checkpoint's config."""
    name, changes = SCHEDULERS[solver]
    own = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    pipeline.scheduler = getattr(diffusers, name).from_config(own, **changes)


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


# dpmpp3m keeps its order in a run of 20 steps of which 10 are taken: "few steps" are those of the whole grid.
SHORT = [(solver, 6, 0.55) for solver in SCHEDULERS] + [("dpmpp3m", 20, 0.5)]
LONG = [(solver, steps, strength) for solver in SCHEDULERS for steps, strength in ((10, 0.55), (20, 0.5), (50, 0.58))]


@pytest.mark.parametrize(
    ("solver", "steps", "strength"), [*SHORT, *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG)]
)
def test_every_solver_starts_where_theirs_does(
    folder: Path, theirs: Any, pipe: Pipeline, solver: str, steps: int, strength: float
) -> None:
    schedule(theirs, folder, solver)
    call = {"prompt": "a red apple", "image": picture(size=(36, 52)), "strength": strength}
    calls = []
    hook = theirs.unet.register_forward_hook(lambda *_: calls.append(1))
    made = theirs(**call, **THEIRS, num_inference_steps=steps, generator=generators(3)).images
    hook.remove()
    grid = SCHEDULERS[solver][1].get("timestep_spacing")
    ours = pipe(**call, **OURS, steps=steps, solver=solver, grid=grid, seed=3)
    assert ours.latents.shape == (1, 4, 18, 26)
    assert relative(ours.latents, made) < 1e-5
    assert ours.stats.nfe == [float(len(calls))]


def test_two_pictures_and_one_picture_for_two_prompts(folder: Path, theirs: Any, pipe: Pipeline) -> None:
    schedule(theirs, folder, "dpmpp2m")
    prompts, negative = ["a red apple", "grinning face!"], {"negative_prompt": ["blurry", "blurry"]}
    for images in ([picture(0), picture(1)], picture(0)):
        call = {"prompt": prompts, "image": images, "strength": 1.0}
        made = theirs(**{**call, **THEIRS, **negative}, num_inference_steps=3, generator=generators(3, 4)).images
        ours = pipe(**call, **OURS, steps=3, seed=[3, 4]).latents
        assert relative(ours, made) < 1e-5


def test_tensors_arrays_paths_and_latents(folder: Path, theirs: Any, pipe: Pipeline, tmp_path: Path) -> None:
    schedule(theirs, folder, "dpmpp2m")
    pil = picture()
    array = np.asarray(pil)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)[None] / 255
    pil.save(tmp_path / "picture.png")
    latents = pipe("a", image=pil, strength=0, output="latent", posterior="sample", seed=3).latents
    prompt, how = "a red apple", {"strength": 0.6, "num_inference_steps": 4}
    made = [
        theirs(prompt, image=image, **THEIRS, **how, generator=generators(3)).images
        for image in (tensor, 2 * tensor - 1, pil)
    ]
    from_latents = theirs(prompt, image=latents, **THEIRS, **how, generator=generators(5)).images
    for same, reference in zip([tensor, 2 * tensor - 1, pil], made, strict=True):
        ours = pipe(prompt, image=same, strength=0.6, steps=4, seed=3, **OURS).latents
        assert relative(ours, reference) < 1e-5
    for same in (array, str(tmp_path / "picture.png")):
        assert relative(pipe(prompt, image=same, strength=0.6, steps=4, seed=3, **OURS).latents, made[0]) < 1e-5
    ours = pipe(prompt, image=latents, strength=0.6, steps=4, seed=5, **OURS).latents
    assert relative(ours, from_latents) < 1e-5


@pytest.mark.parametrize("part", ["base", "refiner"])
def test_xl(part: str, tmp_path: Path) -> None:
    folder = stable_diffusion_xl(tmp_path / part, refiner=part == "refiner")
    theirs = quiet(diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(folder))
    call = {"prompt": "a red apple", "image": picture(), "strength": 0.7}
    made = theirs(**call, **THEIRS, num_inference_steps=10, generator=generators(3)).images
    ours = Pipeline.from_pretrained(folder)(**call, **OURS, steps=10, seed=3)
    assert relative(ours.latents, made) < 1e-5


@pytest.mark.parametrize(
    ("style", "strength", "evaluations"), [("dev", 0.55, 6), ("dev", 1.0, 10), ("schnell", 0.05, 1)]
)
def test_flux_rounds_the_number_of_steps_up(style: str, strength: float, evaluations: int, tmp_path: Path) -> None:
    folder = flux(tmp_path / style, style)
    theirs = quiet(diffusers.FluxImg2ImgPipeline.from_pretrained(folder))
    call = {"prompt": "a red apple", "image": picture(), "strength": strength, "max_sequence_length": 16}
    how = {"num_inference_steps": 10, "guidance_scale": 4.0, "height": 40, "width": 56, "output_type": "latent"}
    made = theirs(**call, **how, generator=generators(3)).images
    pipe = Pipeline.from_pretrained(folder)
    ours = pipe(**call, steps=10, guidance=4.0, seed=3, output="latent", posterior="sample")
    assert relative(ours.latents, diffusers.FluxPipeline._unpack_latents(made, 40, 56, 2)) < 1e-5
    assert ours.stats.nfe == [float(evaluations)]
    if strength == 1:  # as published, nothing of the picture is left at the start
        plain = pipe("a red apple", height=40, width=56, steps=10, guidance=4.0, seed=3, max_sequence_length=16,
                     output="latent")  # fmt: skip
        alone = pipe(**call, steps=10, guidance=4.0, seed=3, output="latent")
        assert relative(alone.latents, plain.latents) < 1e-6


def test_controlnets_count_the_steps_that_are_taken(folder: Path, tmp_path: Path) -> None:
    net = controlnet(tmp_path / "net", folder)
    theirs = quiet(
        diffusers.StableDiffusionControlNetImg2ImgPipeline.from_pretrained(
            folder, controlnet=diffusers.ControlNetModel.from_pretrained(net), safety_checker=None
        )
    )
    call = {"prompt": "a red apple", "image": picture(0), "strength": 0.7}
    how = {"controlnet_conditioning_scale": 0.9, "control_guidance_end": 0.6, "num_inference_steps": 10}
    made = theirs(**call, **THEIRS, **how, control_image=picture(1), generator=generators(3)).images
    pipe = Pipeline.from_pretrained(folder, controlnet=net)
    ours = pipe(**call, **OURS, control=picture(1), control_scale=0.9, control_end=0.6, steps=10, seed=3)
    assert relative(ours.latents, made) < 1e-5


@pytest.mark.parametrize(
    ("solver", "fraction"),
    [
        ("unipc", 0.55),
        *(pytest.param(s, f, marks=pytest.mark.slow) for s in ("euler", "dpmpp2m", "unipc") for f in (0.8, 0.3)),
    ],
)
def test_the_refiner_takes_over(solver: str, fraction: float, xl: tuple[Any, ...]) -> None:
    base, refiner, our_base, our_refiner = xl
    scheduler = getattr(diffusers, SCHEDULERS[solver][0])
    for pipeline in (base, refiner):
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    noise = torch.randn(1, 4, 20, 28, generator=generators(3)[0])
    how = {**THEIRS, "num_inference_steps": 20}
    half = base("a red apple", height=40, width=56, latents=noise.clone(), denoising_end=fraction, **how).images
    made = refiner("a red apple", image=half, denoising_start=fraction, **how).images
    ours = {**OURS, "steps": 20, "solver": solver, "posterior": "mode"}
    first = our_base("a red apple", noise=noise, denoising_end=fraction, **ours)
    second = our_refiner("a red apple", image=first.latents, denoising_start=fraction, **ours)
    assert relative(second.latents, made) < 1e-5
    assert first.stats.nfe[0] == round(20 * fraction) and first.stats.nfe[0] + second.stats.nfe[0] == 20


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    folder = tmp_path_factory.mktemp("handover")
    base, refiner = stable_diffusion_xl(folder / "base"), stable_diffusion_xl(folder / "refiner", refiner=True)
    return (
        quiet(diffusers.StableDiffusionXLPipeline.from_pretrained(base)),
        quiet(diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(refiner)),
        Pipeline.from_pretrained(base),
        Pipeline.from_pretrained(refiner),
    )
