"""Wan pipelines that continue a picture: latents and frames of Diffusers on random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image

from sadaflow import Pipeline
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints_wan import wan, wan_image
from support.flux import relative

PROMPTS = ["a red apple", "a dog runs"]
CALL: dict[str, Any] = {"height": 32, "width": 48, "num_frames": 5, "guidance": 3.0, "steps": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wan_image(tmp_path_factory.mktemp("wan") / "image")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    rows, columns = np.mgrid[0:40, 0:52]
    return Image.fromarray(np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8))


def test_latents_and_frames_match(folder: Path, pipe: Pipeline, picture: Image.Image) -> None:
    reference = WanImageToVideoPipeline.from_pretrained(folder)
    reference.set_progress_bar_config(disable=True)
    how = {"height": 32, "width": 48, "num_frames": 5, "guidance_scale": 3.0, "num_inference_steps": 4}
    noise = initial_noise((16, 2, 4, 6), [3, 4])
    theirs = {
        output: torch.as_tensor(
            reference(picture, PROMPTS, negative_prompt=["", "bad"], latents=noise, output_type=output, **how).frames
        )
        for output in ("latent", "pt")
    }
    out = pipe(PROMPTS, image=picture, negative_prompt=["", "bad"], seed=[3, 4], output="tensor", **CALL)
    assert relative(out.latents, theirs["latent"]) < 1e-4
    assert relative(out.videos, theirs["pt"]) < 1e-4
    alone = pipe(PROMPTS[1], image=picture, negative_prompt="bad", seed=4, output="latent", **CALL)
    assert relative(alone.latents, out.latents[1:]) < 1e-4


def test_pictures_are_needed_and_refused_by_name(pipe: Pipeline, picture: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give image=, the first frame"):
        pipe("a", **CALL)
    with pytest.raises(ValueError, match="strength= has no effect"):
        pipe("a", image=picture, strength=0.5, **CALL)
    text = Pipeline.from_pretrained(wan(tmp_path / "text"))
    with pytest.raises(ValueError, match="video from text alone"):
        text("a", image=picture, num_frames=5)
