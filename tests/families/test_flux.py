"""Flux.1 pipelines: latents and images of Diffusers on random weights, defaults, and rejected arguments."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from sadaflow import SADA, Pipeline
from sadaflow.families import Flux
from sadaflow.models import Autoencoder, AutoencoderConfig
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints import stable_diffusion
from support.checkpoints_flux import flux
from support.flux import packed, relative

PROMPTS = ["a red apple", "grinning face!"]


@pytest.fixture(scope="module", params=["dev", "schnell"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux(tmp_path_factory.mktemp("flux") / request.param, request.param)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux(tmp_path_factory.mktemp("flux") / "dev", "dev")


def reference_pipeline(folder: Path) -> FluxPipeline:
    pipeline = FluxPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
@pytest.mark.parametrize("true_guidance", [1.0, 3.0])
def test_latents_and_images_match(folder: Path, size: tuple[int, int], true_guidance: float) -> None:
    noise = initial_noise((16, size[0] // 2, size[1] // 2), [3, 4])
    negative = "blurry" if true_guidance > 1 else None
    reference = reference_pipeline(folder)

    def theirs(output: str) -> Tensor:
        return reference(
            PROMPTS,
            negative_prompt=None if negative is None else [negative] * 2,
            true_cfg_scale=true_guidance,
            guidance_scale=2.5,
            height=size[0],
            width=size[1],
            num_inference_steps=10,
            latents=packed(noise),
            max_sequence_length=48,
            output_type=output,
        ).images

    out = Pipeline.from_pretrained(folder)(
        PROMPTS,
        negative_prompt=negative,
        true_guidance=true_guidance,
        guidance=2.5,
        height=size[0],
        width=size[1],
        steps=10,
        seed=[3, 4],
        max_sequence_length=48,
        output="tensor",
    )
    assert relative(packed(out.latents), theirs("latent")) < 1e-4
    assert relative(out.images, theirs("pt")) < 1e-4
    assert out.stats.nfe == [10.0, 10.0]


def test_defaults_are_those_of_the_reference(dev: Path) -> None:
    pipe = Pipeline.from_pretrained(dev)
    noise = initial_noise((16, 12, 12), [5])
    theirs = reference_pipeline(dev)(
        PROMPTS[0], height=24, width=24, num_inference_steps=4, latents=packed(noise), output_type="latent"
    ).images
    ours = pipe(PROMPTS[0], steps=4, noise=noise, output="latent").latents
    assert relative(packed(ours), theirs) < 1e-4
    assert pipe.family.default_size == (256, 256)


def test_default_size_is_that_of_the_autoencoder(dev: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dev, tmp_path / "copy"))
    config = json.loads((root / "vae/config.json").read_text())
    for size, expected in ((64, (64, 64)), ([32, 48], (32, 48)), (None, (256, 256))):
        (root / "vae/config.json").write_text(json.dumps({**config, "sample_size": size}))
        assert Pipeline.from_pretrained(root).family.default_size == expected
    (root / "vae/config.json").write_text(json.dumps({**config, "sample_size": 30}))
    with pytest.raises(ValueError, match="sample_size is 30, not a multiple of 4"):
        Pipeline.from_pretrained(root)


def test_shift_follows_the_requested_size(dev: Path) -> None:
    pipe = Pipeline.from_pretrained(dev)
    small, large = (pipe.solver(None, 4, height=side, width=side).nodes[1].t for side in (32, 256))
    assert small < large == pipe.solver(None, 4).nodes[1].t


def test_sada_decides_per_sample(dev: Path) -> None:
    pipe = Pipeline.from_pretrained(dev)
    call = {"steps": 20, "seed": [1, 2], "height": 32, "width": 32, "max_sequence_length": 16, "output": "latent"}
    plain = pipe(PROMPTS, **call)
    fast = pipe(PROMPTS, accelerator=SADA(), **call)
    assert [len(modes) for modes in fast.stats.modes] == [20, 20]
    assert all(nfe < 20 for nfe in fast.stats.nfe)
    assert relative(fast.latents, plain.latents) < 0.2
    alone = pipe(PROMPTS[1], accelerator=SADA(), **{**call, "seed": 2})
    assert alone.stats.modes[0] == fast.stats.modes[1]


@pytest.mark.parametrize("solver", ["euler", "dpmpp2m", "heun"])
def test_solvers_agree_on_the_end_of_the_trajectory(dev: Path, solver: str) -> None:
    pipe = Pipeline.from_pretrained(dev)
    call = {"seed": 1, "height": 32, "width": 32, "max_sequence_length": 16, "output": "latent"}
    fine = pipe(PROMPTS[0], steps=60, **call).latents
    assert relative(pipe(PROMPTS[0], steps=20, solver=solver, **call).latents, fine) < 0.01


@pytest.mark.parametrize("accelerator", ["uniform", "auto"])
def test_skipping_in_log_snr_copes_with_pure_noise_at_the_start(dev: Path, accelerator: str) -> None:
    """Flow time starts at 1, where alpha is 0 and log-SNR infinite."""
    pipe = Pipeline.from_pretrained(dev)
    call = {"steps": 12, "seed": 1, "height": 32, "width": 32, "max_sequence_length": 16, "output": "latent"}
    fast = pipe(PROMPTS[0], accelerator=accelerator, **call)
    assert relative(fast.latents, pipe(PROMPTS[0], **call).latents) < 0.05
    assert fast.stats.nfe[0] < 12
    assert fast.stats.modes[0][:3] == ["full"] * 3


def test_arguments_are_refused_by_name(dev: Path) -> None:
    pipe = Pipeline.from_pretrained(dev)
    with pytest.raises(ValueError, match="height=34.*multiple of 4"):
        pipe("a", height=34)
    with pytest.raises(ValueError, match="max_sequence_length=513"):
        pipe("a", max_sequence_length=513, height=32, width=32)
    with pytest.raises(ValueError, match="divisible by 2"):
        pipe("a", noise=torch.randn(1, 16, 8, 7))
    with pytest.warns(UserWarning, match="true_guidance"):
        pipe("a", negative_prompt="blurry", steps=1, height=32, width=32, max_sequence_length=4, output="latent")
    with pytest.warns(UserWarning, match="cut to 4"):
        pipe("several", steps=1, height=32, width=32, max_sequence_length=4, output="latent")


def test_options_of_flux_are_refused_elsewhere(tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(stable_diffusion(tmp_path / "sd15", "sd15"))
    for option in ({"true_guidance": 2.0}, {"max_sequence_length": 256}, {"crop": (0, 8)}, {"aesthetic_score": 6.0}):
        with pytest.raises(ValueError, match=f"{next(iter(option))}.*StableDiffusion"):
            pipe("a", **option)


def test_components_are_strict_and_must_fit(dev: Path, tmp_path: Path) -> None:
    family = Pipeline.from_pretrained(dev).family
    with pytest.raises(ValueError, match="latents are 4 wide"):
        Flux(
            family.backbone,
            Autoencoder(AutoencoderConfig(block_out_channels=(32,))),
            family.clip,
            family.t5,
            torch.float32,
        )
    damaged = Path(shutil.copytree(dev, tmp_path / "damaged"))
    path = damaged / "text_encoder_2/model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("wo.weight"))
    tensors.pop(name)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"text_encoder_2.*1 missing \({name}"):
        Pipeline.from_pretrained(damaged)
