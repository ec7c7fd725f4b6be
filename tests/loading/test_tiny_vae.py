"""A tiny autoencoder in the place of a checkpoint's: pictures of Diffusers, decoders alone, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline

from sadaflow import Pipeline
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints import stable_diffusion
from support.pictures import quiet, relative
from support.single_files import write

WIDTHS = {  # of two levels, as the checkpoint's autoencoder has
    **{f"{half}_block_out_channels": [8, 8] for half in ("encoder", "decoder")},
    "num_encoder_blocks": [1, 2],
    "num_decoder_blocks": [2, 1],
}
CALL: dict[str, Any] = {"steps": 2, "height": 32, "width": 48, "guidance": 3.0, "output": "tensor", "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("sd") / "made", "sd15")


@pytest.fixture(scope="module")
def taesd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(41)
    path = tmp_path_factory.mktemp("taesd") / "made"
    AutoencoderTiny(scaling_factor=0.5, **WIDTHS).save_pretrained(path)
    return path


def theirs(folder: Path, taesd: Path, kind: Any = StableDiffusionPipeline) -> Any:
    return quiet(kind.from_pretrained(folder, vae=AutoencoderTiny.from_pretrained(taesd)))


def test_pictures_are_those_of_diffusers(folder: Path, taesd: Path) -> None:
    noise = initial_noise((4, 16, 24), [3])
    how = {"num_inference_steps": 2, "guidance_scale": 3.0, "height": 32, "width": 48, "output_type": "pt"}
    expected = theirs(folder, taesd)("a red apple", latents=noise, **how).images
    pipe = Pipeline.from_pretrained(folder, vae=taesd)
    assert relative(pipe("a red apple", **CALL).images, expected) < 1e-4
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    latents = theirs(folder, taesd, StableDiffusionImg2ImgPipeline).vae.encode(2 * image - 1).latents
    kept = pipe("a red apple", image=image[0], strength=0.0, **CALL).latents
    assert relative(kept, 0.5 * latents) < 1e-4


def test_a_decoder_alone_draws_and_does_not_encode(folder: Path, taesd: Path, tmp_path: Path) -> None:
    state = AutoencoderTiny.from_pretrained(taesd).decoder.state_dict()
    numbered = {f"{int(name.split('.')[1]) + 1}.{name.split('.', 2)[2]}": tensor for name, tensor in state.items()}
    pipe = Pipeline.from_pretrained(folder, vae=write(tmp_path / "taesd_decoder.safetensors", numbered))
    whole = Pipeline.from_pretrained(folder, vae=taesd)
    latents = torch.randn(1, 4, 16, 24)
    assert relative(pipe.decode(0.5 * latents), whole.decode(latents * 0.5 * 0.5)) < 1e-5  # a file has no scale: 1
    pipe = Pipeline.from_pretrained(folder, vae=tmp_path / "taesd_decoder.safetensors", dtype="bfloat16")
    assert pipe("a red apple", **CALL).images.isfinite().all()
    with pytest.raises(ValueError, match="image= needs an encoder, and the file given as vae= holds a decoder alone"):
        pipe("a red apple", image=torch.rand(3, 32, 48), **CALL)
    with pytest.raises(ValueError, match="not exported with a tiny autoencoder"):
        pipe.export(tmp_path / "out")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"latent_channels": 16}, "its latents have 16 channels, the checkpoint's 4"),
        ({"upsampling_scaling_factor": 3}, "upsampling_scaling_factor=3 is not supported"),
    ],
)
def test_those_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, fields: dict[str, int], match: str) -> None:
    AutoencoderTiny(**WIDTHS, **fields).save_pretrained(tmp_path / "tiny")
    with pytest.raises(ValueError, match=match):
        Pipeline.from_pretrained(folder, vae=tmp_path / "tiny")
