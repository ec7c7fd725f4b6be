"""Calls with a mask, and networks that read a picture, against Diffusers' pipelines: latents and images."""

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
from support.pictures import SIZE, generators, mask, picture, quiet, relative, widened

PROMPT = "a red apple"
THEIRS: dict[str, Any] = {"num_inference_steps": 5, "guidance_scale": 4.0, "output_type": "latent"}
OURS: dict[str, Any] = {"steps": 5, "guidance": 4.0, "output": "latent", "posterior": "sample"}
WHOLE = {"height": SIZE[0], "width": SIZE[1]}
SCHEDULERS = {
    "dpmpp2m": "DPMSolverMultistepScheduler",
    "heun": "HeunDiscreteScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints whose U-Net reads 4, 8 and 9 channels."""
    root = tmp_path_factory.mktemp("inpaint")
    sd, xl = stable_diffusion(root / "sd", "sd15"), stable_diffusion_xl(root / "xl")
    wide = {
        f"{name}{channels}": widened(folder, root / f"{name}{channels}", channels, f"{prefix}{kind}Pipeline")
        for name, folder, prefix in (("sd", sd, "StableDiffusion"), ("xl", xl, "StableDiffusionXL"))
        for channels, kind in ((9, "Inpaint"), (8, "InstructPix2Pix"))
    }
    return {"sd": sd, "xl": xl, **wide}


@pytest.mark.parametrize(
    "solver", ["dpmpp2m", "heun", *(pytest.param(name, marks=pytest.mark.slow) for name in ("euler", "unipc"))]
)
def test_blending_x0_equals_blending_after_every_step(folders: dict[str, Path], solver: str) -> None:
    theirs = quiet(diffusers.StableDiffusionInpaintPipeline.from_pretrained(folders["sd"], safety_checker=None))
    theirs.scheduler = getattr(diffusers, SCHEDULERS[solver]).from_config(theirs.scheduler.config)
    call = {"prompt": PROMPT, "image": picture(), "strength": 0.7}
    made = theirs(**call, **THEIRS, **WHOLE, mask_image=mask(), generator=generators(3)).images
    ours = Pipeline.from_pretrained(folders["sd"])(**call, **OURS, mask=mask(), seed=3, solver=solver)
    assert relative(ours.latents, made) < 1e-5


@pytest.mark.parametrize(
    ("name", "strength"),
    [
        ("sd9", 1.0),
        ("xl9", 0.7),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("sd9", 0.7), ("xl9", 1.0), ("xl", 0.7))),
    ],
)
def test_inpainting_networks(folders: dict[str, Path], name: str, strength: float) -> None:
    kind = "StableDiffusionXLInpaintPipeline" if name.startswith("xl") else "StableDiffusionInpaintPipeline"
    extra = {} if name.startswith("xl") else {"safety_checker": None}
    theirs = quiet(getattr(diffusers, kind).from_pretrained(folders[name], **extra))
    call = {"prompt": PROMPT, "image": picture(), "strength": strength, "negative_prompt": "blurry"}
    made = theirs(**call, **THEIRS, **WHOLE, mask_image=mask(), generator=generators(3)).images
    ours = Pipeline.from_pretrained(folders[name])(**call, **OURS, mask=mask(), seed=3)
    assert relative(ours.latents, made) < 1e-5
    if strength == 1:  # the default with a mask
        default = Pipeline.from_pretrained(folders[name])(
            PROMPT, image=picture(), mask=mask(), seed=3, **OURS, negative_prompt="blurry"
        )
        assert torch.equal(default.latents, ours.latents)


@pytest.mark.parametrize("name", ["sd9", pytest.param("sd", marks=pytest.mark.slow)])
def test_two_pictures_two_masks_and_tensors(folders: dict[str, Path], name: str) -> None:
    theirs = quiet(diffusers.StableDiffusionInpaintPipeline.from_pretrained(folders[name], safety_checker=None))
    pictures, masks = [picture(0), picture(1)], [mask(), mask(inverted=True)]
    how = {"prompt": ["a", "b"], "strength": 0.7, "negative_prompt": ["x", "y"]}
    made = theirs(**how, **THEIRS, **WHOLE, image=pictures, mask_image=masks, generator=generators(3, 4)).images
    tensors = [torch.from_numpy(np.asarray(each).copy()) / 255 for each in (*pictures, *masks)]
    images, greys = torch.stack(tensors[:2]).permute(0, 3, 1, 2), torch.stack(tensors[2:])[:, None]
    pipe = Pipeline.from_pretrained(folders[name])
    for image, given in ((pictures, masks), (images, list(greys))):
        ours = pipe(**how, **OURS, image=image, mask=given, seed=[3, 4])
        assert relative(ours.latents, made) < 1e-5


@pytest.mark.parametrize("name", ["sd8", pytest.param("xl8", marks=pytest.mark.slow)])
def test_instruct_pix2pix(folders: dict[str, Path], name: str) -> None:
    kind = f"StableDiffusion{'XL' if name == 'xl8' else ''}InstructPix2PixPipeline"
    extra = WHOLE if name == "xl8" else {}
    safety = {} if name == "xl8" else {"safety_checker": None}
    theirs = quiet(getattr(diffusers, kind).from_pretrained(folders[name], **safety))
    noise = torch.randn(1, 4, 20, 28, generator=generators(3)[0])
    call = {"prompt": PROMPT, "image": picture(), "negative_prompt": "blurry"}
    made = theirs(**call, **THEIRS, **extra, image_guidance_scale=1.7, latents=noise.clone()).images
    pipe = Pipeline.from_pretrained(folders[name])
    ours = pipe(**call, **{**OURS, "posterior": "mode"}, image_guidance=1.7, seed=3)
    assert relative(ours.latents, made) < 1e-5
    with pytest.raises(ValueError, match="edits a picture .*: give image="):
        pipe(PROMPT, steps=2)
    with pytest.raises(ValueError, match="strength= has no effect on a checkpoint that edits"):
        pipe(PROMPT, image=picture(), strength=0.5)


@pytest.mark.parametrize("style", ["dev", pytest.param("schnell", marks=pytest.mark.slow)])
def test_flux(style: str, tmp_path: Path) -> None:
    folder = flux(tmp_path / style, style)
    theirs = quiet(diffusers.FluxInpaintPipeline.from_pretrained(folder))
    call = {"prompt": PROMPT, "image": picture(), "strength": 0.55, "max_sequence_length": 16}
    made = theirs(**call, **THEIRS, **WHOLE, mask_image=mask(), generator=generators(3)).images
    ours = Pipeline.from_pretrained(folder)(**call, **OURS, mask=mask(), seed=3)
    assert relative(ours.latents, diffusers.FluxPipeline._unpack_latents(made, *SIZE, 2)) < 1e-5


def test_flux_fill(tmp_path: Path) -> None:
    """Its transformer reads twice 16 channels of latents, and the 4 pixels of each position of the mask."""
    folder = flux(tmp_path / "fill", "dev", in_channels=4 * 36, out_channels=64)
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "FluxFillPipeline"}))
    theirs = quiet(diffusers.FluxFillPipeline.from_pretrained(folder))
    pipe = Pipeline.from_pretrained(folder)
    how = {"num_inference_steps": 8, "output_type": "latent", "max_sequence_length": 16, "prompt": PROMPT}
    for strength in (0.6, 1.0):
        call = {"image": picture(), "strength": strength, **WHOLE}
        made = theirs(**call, **how, mask_image=mask(), generator=generators(3)).images
        ours = pipe(
            PROMPT, **call, **{**OURS, "guidance": None, "steps": 8}, mask=mask(), seed=3, max_sequence_length=16
        )
        assert relative(ours.latents, diffusers.FluxPipeline._unpack_latents(made, *SIZE, 2)) < 1e-5


def test_a_controlnet_beside_an_inpainting_network(folders: dict[str, Path], tmp_path: Path) -> None:
    net = controlnet(tmp_path / "net", folders["sd"])
    theirs = quiet(
        diffusers.StableDiffusionControlNetInpaintPipeline.from_pretrained(
            folders["sd9"], controlnet=diffusers.ControlNetModel.from_pretrained(net), safety_checker=None
        )
    )
    call = {"prompt": PROMPT, "image": picture(), "strength": 0.7}
    how = {"mask_image": mask(), "control_image": picture(1), "controlnet_conditioning_scale": 0.9}
    made = theirs(**call, **THEIRS, **WHOLE, **how, generator=generators(3)).images
    pipe = Pipeline.from_pretrained(folders["sd9"], controlnet=net)
    ours = pipe(**call, **OURS, mask=mask(), control=picture(1), control_scale=0.9, seed=3)
    assert relative(ours.latents, made) < 1e-5


@pytest.mark.parametrize("blur", [0, 3])
def test_a_crop_around_the_mask_is_repainted_at_the_size_made(folders: dict[str, Path], blur: int) -> None:
    theirs = quiet(diffusers.StableDiffusionInpaintPipeline.from_pretrained(folders["sd"], safety_checker=None))
    image, spot = picture(2, (96, 120)), np.zeros((96, 120), np.uint8)
    spot[50:80, 70:110] = 255
    grey = diffusers.image_processor.PIL.Image.fromarray(spot)
    soft = theirs.mask_processor.blur(grey, blur_factor=blur) if blur else grey
    call = {"prompt": PROMPT, "image": image, "strength": 0.7, "padding_mask_crop": 8}
    how = {**THEIRS, "output_type": "pil"}
    made = theirs(**call, **how, height=40, width=40, mask_image=soft, generator=generators(3)).images[0]
    pipe = Pipeline.from_pretrained(folders["sd"])
    ours = pipe(**call, **{**OURS, "output": "pil"}, height=40, width=40, mask=grey, mask_blur=blur, seed=3).images[0]
    assert ours.size == made.size == (120, 96)
    difference = np.abs(np.asarray(ours).astype(int) - np.asarray(made).astype(int))
    assert difference.max() <= 2  # theirs rounds to 8 bits before and after resizing
    assert np.abs(np.asarray(ours).astype(int) - np.asarray(image).astype(int))[:40].max() <= 1
