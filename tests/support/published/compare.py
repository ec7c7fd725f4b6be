"""Latents of a checkpoint folder by Diffusers' pipeline and by ours, for the same arguments and noise."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
)
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.pipeline.inputs import initial_noise

PROMPT, NEGATIVE, GUIDANCE, SIDE, SEED = "a red apple", "blurry", 2.0, 64, 3
_ABSENT = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}


def reference_latents(folder: Path, steps: int = 4, **loading: Any) -> Tensor:
    """Final latents (1, C, h, w) of Diffusers' pipeline on a folder of text-to-image.

    Args:
        folder: The checkpoint.
        steps: Number of steps.
        loading: `controlnet` (a folder) and `scheduler` (a config), as our pipeline takes them.
    """
    optional = {name: None for name in _ABSENT if f'"{name}"' in (folder / "model_index.json").read_text()}
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, **optional)
    if "scheduler" in loading:
        cls = getattr(diffusers, loading["scheduler"]["_class_name"])
        pipe = type(pipe)(**{**pipe.components, **optional, "scheduler": cls.from_config(loading["scheduler"])})
    noise = initial_noise((4, SIDE // 8, SIDE // 8), [SEED])
    generator = torch.Generator().manual_seed(SEED)
    common: dict[str, Any] = {"num_inference_steps": steps, "output_type": "latent", "prompt": PROMPT}
    guided = {"negative_prompt": NEGATIVE, "guidance_scale": GUIDANCE, "generator": generator, **common}
    kind = type(pipe).__name__
    if "controlnet" in loading:
        net = ControlNetModel.from_pretrained(loading["controlnet"])
        cls = StableDiffusionXLControlNetPipeline if "XL" in kind else StableDiffusionControlNetPipeline
        pipe = cls.from_pipe(pipe, controlnet=net)
        guided["image"] = control_image()
    pipe.set_progress_bar_config(disable=True)
    if kind == "FluxPipeline":
        noise = initial_noise((16, SIDE // 8, SIDE // 8), [SEED])
        packed = pipe._pack_latents(noise, 1, *noise.shape[1:])
        found = pipe(latents=packed, height=SIDE, width=SIDE, guidance_scale=3.5, **common).images
        return pipe._unpack_latents(found, SIDE, SIDE, pipe.vae_scale_factor)
    if kind == "StableDiffusionXLImg2ImgPipeline":
        return _refined(pipe, noise, guided)
    if kind == "LatentConsistencyModelPipeline":
        del guided["negative_prompt"]  # the U-Net embeds the guidance
        found = pipe(latents=noise, height=SIDE, width=SIDE, return_dict=False, **guided)[0]
        return found
    return pipe(latents=noise, height=SIDE, width=SIDE, **guided).images


def control_image() -> Tensor:
    """A picture (1, 3, H, W) in [0, 1] for a ControlNet."""
    return torch.rand((1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(9))


def _refined(pipe: Any, noise: Tensor, common: dict[str, Any]) -> Tensor:
    """The refiner's pipeline starts from a picture; at full strength from nothing but noise."""
    pipe.scheduler.set_timesteps(common["num_inference_steps"])
    start = noise * pipe.scheduler.init_noise_sigma
    size = (SIDE, SIDE)
    return pipe(
        image=torch.zeros(1, 4, SIDE // 8, SIDE // 8), latents=start, strength=1.0, original_size=size,
        target_size=size, **common,
    ).images  # fmt: skip


class Draws:
    """A noise source that gives the numbers of one generator in turn, as Diffusers' schedulers draw them."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator)


def our_latents(folder: Path, steps: int = 4, **loading: Any) -> Tensor:
    """Final latents (1, C, h, w) of our pipeline; `loading` are arguments of `Pipeline.from_pretrained`."""
    pipe = Pipeline.from_pretrained(folder, **loading)
    flux = type(pipe.family).__name__ == "Flux"
    settings: dict[str, Any] = {"guidance": 3.5} if flux else {"guidance": GUIDANCE, "negative_prompt": NEGATIVE}
    if type(pipe.family).__name__ == "LatentConsistency":
        del settings["negative_prompt"]
    if "controlnet" in loading:
        settings["control"] = control_image()
    size = {"height": SIDE, "width": SIDE}
    solver = pipe.solver(None, steps, noise=Draws(SEED), **size)
    return pipe(PROMPT, solver=solver, seed=SEED, output="latent", **size, **settings).latents
