"""What both sides sample."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...families.flux import Flux
from ...pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class Task:
    """What both sides sample.

    Attributes:
        prompts: One prompt per sample.
        noise: Initial noise (B, C, h, w), unit normal.
        steps: Number of steps.
        guidance: Guidance scale.
        solver: Name of the solver. None: the checkpoint's own.
        tokens: Length of Flux's T5 prompt.
    """

    prompts: Sequence[str]
    noise: Tensor
    steps: int
    guidance: float
    solver: str | None = None
    tokens: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        return self.noise.shape[-2], self.noise.shape[-1]


def task_for(
    pipe: Pipeline, batch: int, steps: int, size: int | None, guidance: float | None, solver: str | None
) -> Task:
    """Builds the task for a checkpoint.

    Args:
        pipe: The pipeline.
        batch: Number of samples.
        steps: Number of steps.
        size: Height and width in pixels. None: the checkpoint's own.
        guidance: Guidance scale. None: the checkpoint's own.
        solver: Name of the solver. None: the checkpoint's own.

    Raises:
        ValueError: If the size is not a multiple of the pixels per token.
    """
    family = pipe.family
    sides = family.default_size if size is None else (size, size)
    downscale = pipe.vae.config.downscale
    if any(side < downscale or side % (downscale * family.patch) for side in sides):
        raise ValueError(f"a size of {sides[0]} is not a multiple of the {downscale * family.patch} pixels per token")
    shape = (batch, family.latent_channels, *(side // downscale for side in sides))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(pipe.dtype).float()  # as both hold it
    prompts = [f"red apple {number}" for number in range(batch)]
    tokens = min(family.t5.longest, family.t5.tokenizer.model_max_length) if isinstance(family, Flux) else None
    return Task(prompts, noise, steps, pipe.default_guidance if guidance is None else guidance, solver, tokens)
