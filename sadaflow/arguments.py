"""Arguments of a pipeline's call, read for a kind of checkpoint; ValueError for what does not fit, before any work."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .families import AudioFamily, Family

_OUTPUTS = ("pil", "tensor", "latent")
_AUDIO_OUTPUTS = ("audio", "tensor", "latent")


def read_prompts(prompt: str | Sequence[str]) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        raise ValueError("no prompt: give a string, or a list with at least one")
    return prompts


def read_output(output: str | None, family: Family) -> str:
    known = _AUDIO_OUTPUTS if isinstance(family, AudioFamily) else _OUTPUTS
    if output is not None and output not in known:
        raise ValueError(f"unknown output {output!r}; known for this checkpoint: {', '.join(known)}")
    return output or known[0]


def read_seeds(seed: int | Sequence[int], samples: int) -> list[int]:
    seeds = [seed] * samples if isinstance(seed, int) else list(seed)
    if len(seeds) != samples:
        raise ValueError(f"{len(seeds)} seeds for {samples} prompts: give one seed, or one per prompt")
    return seeds


def read_height(height: int | None, seconds: float | None, family: Family) -> int | None:
    """`height`, or the spectrogram frames that hold `seconds`."""
    if seconds is None:
        return height
    if not isinstance(family, AudioFamily):
        raise ValueError(f"seconds={seconds} is a length of sound, and this checkpoint makes images")
    if height is not None:
        raise ValueError("seconds= and height= (in spectrogram frames) both give the length: leave one out")
    return family.frames(seconds)


def latent_shape(family: Family, height: int | None, width: int | None) -> tuple[int, int, int]:
    """Shape (C, h, w) of the latents of a picture in pixels; None is the checkpoint's own size."""
    factor, sides = family.vae.config.downscale * family.patch, []
    for label, asked, default in zip(("height", "width"), (height, width), family.default_size, strict=True):
        pixels = default if asked is None else asked
        if pixels < factor or pixels % factor:
            raise ValueError(f"{label}={pixels} is not a positive multiple of {factor}, the pixels per token")
        sides.append(pixels // family.vae.config.downscale)
    return (family.latent_channels, sides[0], sides[1])


def initial_noise(shape: tuple[int, int, int], seeds: Sequence[int]) -> Tensor:
    """Unit-normal noise (B, C, h, w), each sample drawn on the CPU from a generator of its own."""
    return torch.cat([torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def check_noise(noise: Tensor, samples: int, family: Family) -> Tensor:
    """`noise`, if it is (B, C, h, w) for as many samples and whole tokens."""
    channels, patch = family.latent_channels, family.patch
    whole = noise.dim() == 4 and not any(side % patch for side in noise.shape[2:])
    if not whole or noise.shape[:2] != (samples, channels):
        multiple = f" with h and w divisible by {patch}" if patch > 1 else ""
        raise ValueError(f"noise has shape {tuple(noise.shape)}, expected ({samples}, {channels}, h, w){multiple}")
    return noise
