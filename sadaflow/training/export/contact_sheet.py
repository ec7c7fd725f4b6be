"""Draws contact sheets: the pictures of a model for a list of prompts."""

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
    """Sample latents by DDIM (Song et al. 2021, arXiv 2010.02502), all from the same noise.

    Args:
        predict: `predict(x, timestep)` is v (2B, 4, 16, 16): the negative branches, then the conditional ones.
        samples: Number of samples B.
        table: alpha^2 (T,).
        steps: Number of steps.
        guidance: Guidance strength.
        seed: Seed of the noise.

    Returns:
        Scaled latents (B, 4, 16, 16).
    """
    x = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(seed)).repeat(samples, 1, 1, 1)
    grid = torch.linspace(TIMESTEPS - 1, 0, steps).round().long().tolist()
    for timestep, following in zip(grid, [*grid[1:], None], strict=True):
        alpha, sigma = table[timestep].sqrt(), (1 - table[timestep]).sqrt()
        both = torch.cat((x, x)).contiguous(memory_format=torch.channels_last)
        negative, conditional = predict(both, timestep).chunk(2)
        v = negative + guidance * (conditional - negative)
        x0, eps = alpha * x - sigma * v, sigma * x + alpha * v
        x = x0 if following is None else table[following].sqrt() * x0 + (1 - table[following]).sqrt() * eps
    return x


def to_bytes(images: Tensor) -> Tensor:
    """Convert images in [-1, 1] to bytes."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@torch.no_grad()
def draw_prompts(unet: UNet, text: Any, vae: Autoencoder, tokens: Tensor, empty: Tensor) -> Tensor:
    """Draw pictures (B, 3, H, W) in bytes for token ids (B, L); `empty` (L,) is the empty prompt."""
    context = text(torch.cat((empty.expand_as(tokens), tokens))).last_hidden_state

    def predict(x: Tensor, timestep: int) -> Tensor:
        return unet(x, timestep, context)

    return to_bytes(vae.decode(ddim(predict, len(tokens), alphas_cumprod().float()) / vae.config.scaling_factor))


def write_sheet(path: Path, pictures: Tensor, labels: Sequence[str], columns: int = 5, zoom: int = 2) -> None:
    """Write a contact sheet as a picture file.

    Args:
        path: The file; missing parent folders are created.
        pictures: Pictures (B, 3, H, W) in bytes.
        labels: Text below each picture.
        columns: Pictures in a row.
        zoom: Factor by which the pictures are enlarged.
    """
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
