"""Pictures, masks and networks with further input channels, for calls that start from a picture."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

SIZE = (40, 56)
"""Height and width of the pictures: not square, and whole tokens of every small checkpoint."""


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture of soft colours."""
    height, width = size
    blobs = np.random.default_rng(seed).normal(128, 50, (height // 4, width // 4, 3)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)


def mask(*, inverted: bool = False) -> Image.Image:
    """A mask whose edges lie between latent positions, with grey below and above one half inside."""
    grey = np.zeros(SIZE, np.uint8)
    grey[7:25, 11:40] = 255
    grey[10:15, 20:30] = 120
    grey[18:21, 30:36] = 140
    return Image.fromarray(255 - grey if inverted else grey)


def generators(*seeds: int) -> list[torch.Generator]:
    """A generator for each sample, as Diffusers takes them for draws that do not depend on the batch."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def quiet(pipeline: Any) -> Any:
    """A Diffusers pipeline without its progress bar."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def widened(folder: Path, out: Path, channels: int, class_name: str) -> Path:
    """A copy of a checkpoint whose U-Net reads `channels` channels, in the layout of the pipeline `class_name`."""
    shutil.copytree(folder, out)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    torch.manual_seed(9)
    wide = UNet2DConditionModel.from_config({**unet.config, "in_channels": channels})
    state, fresh = unet.state_dict(), wide.state_dict()["conv_in.weight"]
    wide.load_state_dict({**state, "conv_in.weight": torch.cat([state["conv_in.weight"], fresh[:, 4:]], 1)})
    shutil.rmtree(out / "unet")
    wide.save_pretrained(out / "unet")
    index = out / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": class_name}))
    return out


@pytest.fixture
def posterior_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diffusers takes the mode of an autoencoder's posterior in place of a draw, as ours by default."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
