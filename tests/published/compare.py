"""Latents of a checkpoint folder by Diffusers' pipeline and by ours, for the same arguments and noise."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.pipeline import initial_noise

PROMPT, NEGATIVE, GUIDANCE, SIDE, SEED = "a red apple", "blurry", 2.0, 64, 3
_ABSENT = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}


def reference_latents(folder: Path, steps: int = 4, **arguments: Any) -> Tensor:
    """Final latents (1, C, h, w) of Diffusers' pipeline on a folder of text-to-image."""
    optional = {name: None for name in _ABSENT if f'"{name}"' in (folder / "model_index.json").read_text()}
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, **optional)
    pipe.set_progress_bar_config(disable=True)
    kind = type(pipe).__name__
    common = {"num_inference_steps": steps, "output_type": "latent", **arguments}
    if kind == "FluxPipeline":
        noise = initial_noise((16, SIDE // 8, SIDE // 8), [SEED])
        packed = pipe._pack_latents(noise, 1, *noise.shape[1:])
        found = pipe(PROMPT, latents=packed, height=SIDE, width=SIDE, guidance_scale=3.5, **common).images
        return pipe._unpack_latents(found, SIDE, SIDE, pipe.vae_scale_factor)
    noise = initial_noise((4, SIDE // 8, SIDE // 8), [SEED])
    generator = torch.Generator().manual_seed(SEED)
    common |= {"negative_prompt": NEGATIVE, "guidance_scale": GUIDANCE, "generator": generator}
    if kind == "StableDiffusionXLImg2ImgPipeline":
        return _refined(pipe, noise, common)
    return pipe(PROMPT, latents=noise, height=SIDE, width=SIDE, **common).images


def _refined(pipe: Any, noise: Tensor, common: dict[str, Any]) -> Tensor:
    """The refiner's pipeline starts from a picture; at full strength from nothing but noise."""
    pipe.scheduler.set_timesteps(common["num_inference_steps"])
    start = noise * pipe.scheduler.init_noise_sigma
    size = (SIDE, SIDE)
    return pipe(
        PROMPT, image=torch.zeros(1, 4, SIDE // 8, SIDE // 8), latents=start, strength=1.0, original_size=size,
        target_size=size, **common,
    ).images  # fmt: skip


class Draws:
    """A noise source that gives the numbers of one generator in turn, as Diffusers' schedulers draw them."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator)


def our_latents(folder: Path, steps: int = 4, **arguments: Any) -> Tensor:
    """Final latents (1, C, h, w) of our pipeline."""
    pipe = Pipeline.from_pretrained(folder)
    flux = type(pipe.family).__name__ == "Flux"
    guidance = {"guidance": 3.5} if flux else {"guidance": GUIDANCE, "negative_prompt": NEGATIVE}
    size = {"height": SIDE, "width": SIDE}
    solver = pipe.solver(None, steps, noise=Draws(SEED), **size)
    return pipe(PROMPT, solver=solver, seed=SEED, output="latent", **size, **guidance, **arguments).latents
