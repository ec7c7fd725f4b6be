"""Pictures to start from with the transformers that came after Flux.1, against the Diffusers pipelines of the task."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from sadaflow import Pipeline
from support.checkpoints_chroma import chroma
from support.checkpoints_flux2 import flux2_klein
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image
from support.pictures import generators, picture, quiet, relative

MAKERS: dict[str, Callable[[Path], object]] = {
    "chroma": chroma,
    "flux2": flux2_klein,
    "sd3": lambda folder: sd3(folder, "3.5 medium"),
    "z_image": z_image,
}


class Masked(diffusers.ChromaImg2ImgPipeline):  # type: ignore[misc]
    """The pipeline with a mask that is one: published, it is a bias of 1 in favour of what should be read alone."""

    def _prepare_attention_mask(self, *args: Any, **kwargs: Any) -> Any:
        mask = super()._prepare_attention_mask(*args, **kwargs)
        return None if mask is None else mask.bool()


SIZE = {"height": 32, "width": 48}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("chroma", Masked),
        ("sd3", diffusers.StableDiffusion3Img2ImgPipeline),
        ("z_image", diffusers.ZImageImg2ImgPipeline),
    ],
)
def test_a_picture_is_begun_from_as_published(name: str, task: Any, tmp_path: Path) -> None:
    folder = tmp_path / name
    MAKERS[name](folder)
    theirs = quiet(task.from_pretrained(folder))
    call = {"prompt": "a red apple", "image": picture(0, (32, 48)), "strength": 0.55}
    how = {"num_inference_steps": 7, "guidance_scale": 3.0, "output_type": "pt", "generator": generators(3), **SIZE}
    made = theirs(**call, **how).images
    ours = Pipeline.from_pretrained(folder)(
        **call, **SIZE, steps=7, guidance=3.0, seed=3, output="tensor", posterior="sample"
    )
    assert relative(ours.images, torch.as_tensor(made)) < 1e-4


@pytest.mark.parametrize("name", MAKERS)
def test_at_strength_0_the_picture_comes_back(name: str, tmp_path: Path) -> None:
    """Its latents decode to what the autoencoder makes of the picture."""
    folder = tmp_path / name
    MAKERS[name](folder)
    pipe = Pipeline.from_pretrained(folder)
    image = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    out = pipe("a red apple", image=image, strength=0.0, steps=4, output="tensor")
    assert torch.equal(out.images[0], image)
    vae: Any = pipe.family.vae
    expected = (vae.decode(vae.encode(image[None] * 2 - 1)[0]) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(pipe.family.decode(out.latents), expected, rtol=1e-5, atol=1e-5)
