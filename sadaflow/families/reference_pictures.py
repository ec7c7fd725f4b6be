"""Pictures that a network reads beside the prompt, as they are and not as the start of sampling."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sadaflow.models import Autoencoder

from ..files.pictures import open_picture, rgb, size_of
from .encoding import encode_images
from .prompt_encoder import input_device

Size = tuple[int, int]
_UNIT = 32  # pixels, to which published pipelines round the sides


def opened(image: Any, samples: int, *, several: bool) -> list[list[Any]]:
    """Opens the pictures of each sample.

    Args:
        image: A picture for all samples, or a list with one for each: path, PIL image, array, or tensor (3, H, W) in
            [0, 1]. With `several`, an entry of a list may be a list itself, and a list for a single sample is one.
        samples: Number of samples.
        several: Whether a sample may have more than one picture.

    Raises:
        ValueError: If a picture cannot be read, or their number does not fit.
    """
    batch = isinstance(image, (list, tuple)) or getattr(image, "ndim", 0) == 4
    given = list(image) if batch else [image]
    if several and samples == 1 and not any(isinstance(entry, (list, tuple)) for entry in given):
        given = [given]
    rows = [list(entry) if isinstance(entry, (list, tuple)) else [entry] for entry in given]
    if len(rows) not in (1, samples):
        raise ValueError(f"image has {len(rows)} entries for {samples} prompt(s): give one for all, or one for each")
    if len({len(row) for row in rows}) > 1 or not rows[0]:
        raise ValueError(f"image: samples have {[len(row) for row in rows]} pictures; all of a call need as many")
    if len(rows[0]) > 1 and not several:
        raise ValueError(f"image: {len(rows[0])} pictures for a sample, and this checkpoint reads a single one")
    found = [[_opened(picture, index) for picture in row] for index, row in enumerate(rows)]
    return found * samples if len(found) == 1 else found


def fitted(picture: Any, area: int) -> Size:
    """Height and width of about `area` pixels with the proportions of an opened picture, in multiples of 32."""
    height, width = size_of(picture)
    across = math.sqrt(area * width / height)
    return round(across / (width / height) / _UNIT) * _UNIT, round(across / _UNIT) * _UNIT


def resized(pictures: Sequence[Sequence[Any]], fit: Callable[[Any], Size]) -> list[list[Tensor]]:
    """Opened pictures of each sample as RGB (3, H, W) in [0, 1], resized to the height and width that `fit` gives.

    Raises:
        ValueError: If pictures at the same position of two samples get different sizes.
    """
    made = [[rgb(picture, fit(picture)) for picture in row] for row in pictures]
    for position in zip(*made, strict=True):
        if len({picture.shape for picture in position}) > 1:
            raise ValueError("image: pictures of several proportions in one call; call once for each")
    return made


def encoded(vae: Autoencoder, pictures: Sequence[Tensor]) -> Tensor:
    """Latents (B, C, h, w) of a picture (3, H, W) in [0, 1] of each sample, all of one size."""
    return encode_images(vae, 2 * torch.stack(list(pictures)).to(input_device(vae)) - 1)


def _opened(picture: Any, sample: int) -> Any:
    try:
        if isinstance(picture, Tensor):
            picture = _array(picture)
        return open_picture(picture)
    except ValueError as error:
        raise ValueError(f"image{f'[{sample}]' if sample else ''}: {error}") from error


def _array(picture: Tensor) -> np.ndarray[Any, Any]:
    if picture.dim() != 3 or picture.shape[0] != 3:
        raise ValueError(f"a tensor of shape {tuple(picture.shape)} is not a picture: expected (3, H, W) in [0, 1]")
    return picture.detach().float().cpu().permute(1, 2, 0).numpy()
