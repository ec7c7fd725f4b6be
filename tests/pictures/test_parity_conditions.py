"""Networks that read a depth map or a control picture, against Diffusers."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from sadaflow import Pipeline
from support.checkpoints import stable_diffusion
from support.checkpoints_flux import flux
from support.pictures import SIZE, generators, picture, posterior_mode, quiet, relative, widened

pytestmark = pytest.mark.usefixtures(posterior_mode.__name__)

PROMPT = "a red apple"


@pytest.fixture(scope="module")
def sd5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("depth")
    folder = widened(stable_diffusion(root / "sd", "sd15"), root / "sd5", 5, "StableDiffusionDepth2ImgPipeline")
    index = folder / "model_index.json"  # as published, with the depth estimator, which is not read
    more = {
        "depth_estimator": ["transformers", "DPTForDepthEstimation"],
        "feature_extractor": ["transformers", "DPTFeatureExtractor"],
    }
    kept = {name: value for name, value in json.loads(index.read_text()).items() if "safety" not in name}
    index.write_text(json.dumps({**kept, **more}))
    return folder


@pytest.fixture(scope="module")
def flux128(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = flux(tmp_path_factory.mktemp("control") / "dev", "dev", in_channels=128, out_channels=64)
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "FluxControlPipeline"}))
    return folder


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_depth_to_image(sd5: Path, strength: float) -> None:
    kind = diffusers.StableDiffusionDepth2ImgPipeline
    theirs = quiet(kind.from_pretrained(sd5, depth_estimator=None, feature_extractor=None))
    depth = torch.rand(1, 30, 50, generator=torch.Generator().manual_seed(2)) * 7 - 3
    call: dict[str, Any] = {"prompt": PROMPT, "image": picture(), "strength": strength}
    how = {"num_inference_steps": 6, "guidance_scale": 3.0, "output_type": "latent", "depth_map": depth}
    made = theirs(**call, **how, generator=generators(3)).images
    pipe = Pipeline.from_pretrained(sd5)
    ours = pipe(**call, steps=6, guidance=3.0, output="latent", control=depth, seed=3)
    assert relative(ours.latents, made) < 1e-5


def test_flux_control(flux128: Path) -> None:
    theirs = quiet(diffusers.FluxControlPipeline.from_pretrained(flux128))
    size = {"height": SIZE[0], "width": SIZE[1]}
    how = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "latent", "max_sequence_length": 16}
    made = theirs(PROMPT, control_image=picture(), **size, **how, generator=generators(3)).images
    pipe = Pipeline.from_pretrained(flux128)
    call: dict[str, Any] = {"steps": 4, "guidance": 3.0, "output": "latent", "max_sequence_length": 16, "seed": 3}
    ours = pipe(PROMPT, control=picture(), **size, **call).latents
    assert relative(ours, diffusers.FluxPipeline._unpack_latents(made, *SIZE, 2)) < 1e-5
    both = pipe([PROMPT, "fox"], control=picture(), **size, **{**call, "seed": [3, 4]}).latents
    assert relative(both[:1], ours) < 1e-5


def test_flux_control_from_a_picture(flux128: Path) -> None:
    theirs = quiet(diffusers.FluxControlImg2ImgPipeline.from_pretrained(flux128))
    size = {"height": SIZE[0], "width": SIZE[1]}
    how = {"num_inference_steps": 5, "guidance_scale": 3.0, "output_type": "latent", "max_sequence_length": 16}
    call: dict[str, Any] = {"image": picture(1), "strength": 0.6}
    made = theirs(PROMPT, control_image=picture(), **call, **size, **how, generator=generators(3)).images
    ours = Pipeline.from_pretrained(flux128)(
        PROMPT, control=picture(), **call, steps=5, guidance=3.0, output="latent", max_sequence_length=16, seed=3
    )
    assert relative(ours.latents, diffusers.FluxPipeline._unpack_latents(made, *SIZE, 2)) < 1e-5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "this checkpoint reads a depth map beside the prompt: give control="),
        ({"control": torch.zeros(8, 8)}, "control: the depth map is the same everywhere"),
        ({"control": torch.full((8, 8), float("nan"))}, "control: the depth map holds NaN"),
        ({"control": torch.rand(3, 8, 8)}, r"control: a depth map is \(H, W\), .* got \(3, 8, 8\)"),
        ({"control": picture(), "control_scale": 0.5}, "control_scale= is for ControlNets"),
        ({"control": "https://example.org/depth.png"}, "control: .* is a URL"),
    ],
)
def test_depth_maps_that_do_not_fit(sd5: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Pipeline.from_pretrained(sd5)("a", steps=2, image=picture(), **arguments)
