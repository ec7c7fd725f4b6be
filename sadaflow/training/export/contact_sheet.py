"""Contact sheets: pictures of a list of prompts on one page."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sadaflow.models import Autoencoder, UNet

from ..loops.diffusion import TIMESTEPS, alphas_cumprod


def ddim(
    predict: Callable[[Tensor, int], Tensor],
    samples: int,
    table: Tensor,
    steps: int = 25,
    guidance: float = 5.0,
    seed: int = 0,
) -> Tensor:
    """Samples latents by DDIM with guidance, all from the same noise.

    Args:
        predict: (x (2B, 4, 16, 16), timestep) -> v-prediction: the first half without prompts, the second half with.
        samples: Number of samples B.
        table: alpha^2 of every timestep, (T,).
        steps: Number of steps.
        guidance: Guidance scale.
        seed: Seed of the noise.

    Returns:
        Latents (B, 4, 16, 16).

    Source:
        Song et al. 2021, arXiv 2010.02502.
    """
    x = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(seed)).repeat(samples, 1, 1, 1)
    grid = torch.linspace(TIMESTEPS - 1, 0, steps).round().long().tolist()
    for timestep, following in zip(grid, [*grid[1:], None], strict=True):
        alpha, sigma = table[timestep].sqrt(), (1 - table[timestep]).sqrt()
        plain, prompted = predict(torch.cat((x, x)).contiguous(memory_format=torch.channels_last), timestep).chunk(2)
        v = plain + guidance * (prompted - plain)
        x0, eps = alpha * x - sigma * v, sigma * x + alpha * v
        x = x0 if following is None else table[following].sqrt() * x0 + (1 - table[following]).sqrt() * eps
    return x


def to_bytes(images: Tensor) -> Tensor:
    """Converts images in [-1, 1] to bytes."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@torch.no_grad()
def draw_prompts(unet: UNet, text: Any, vae: Autoencoder, tokens: Tensor, empty: Tensor) -> Tensor:
    """Generates pictures (B, 3, H, W), uint8, for tokens (B, L) of prompts and of the empty prompt."""
    context = text(torch.cat((empty.expand_as(tokens), tokens))).last_hidden_state

    def predict(x: Tensor, timestep: int) -> Tensor:
        return unet(x, timestep, context)

    return to_bytes(vae.decode(ddim(predict, len(tokens), alphas_cumprod().float()) / vae.config.scaling_factor))


def write_sheet(path: Path, pictures: Tensor, labels: Sequence[str], columns: int = 5, zoom: int = 2) -> None:
    """Writes a page of pictures (B, 3, H, W), uint8, each with its label below."""
    height, side, band = zoom * pictures.shape[-2], zoom * pictures.shape[-1], 16
    rows = -(-len(labels) // columns)
    page = Image.new("RGB", (columns * (side + 8) + 8, rows * (height + band + 8) + 8), "white")
    pen = ImageDraw.Draw(page)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = 8 + index % columns * (side + 8), 8 + index // columns * (height + band + 8)
        tile = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
        page.paste(tile.resize((side, height), Image.Resampling.BICUBIC), (left, top))
        pen.text((left + side // 2, top + height + 2), label, fill="black", anchor="ma")
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)
