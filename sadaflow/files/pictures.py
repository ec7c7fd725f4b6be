"""Reads pictures and masks to start from: files, PIL images and arrays. Nothing in them is dropped in silence."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .images import from_array, from_pil, is_pil, read_image

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value: ITU-R BT.601, as Pillow has them."""


def open_picture(value: Any) -> Any:
    """Open a path as a PIL image, and turn a PIL image as its EXIF data says; an array is returned as it is.

    Raises:
        ValueError: If it is a URL, an animation, or a file that cannot be read; if pixels are transparent; or if it is
            neither path, PIL image nor array.
    """
    if isinstance(value, (str, os.PathLike)):
        return _opaque(_still(_path(value)))
    if is_pil(value):
        from PIL import ImageOps

        return _opaque(ImageOps.exif_transpose(value))
    if isinstance(value, np.ndarray):
        return _opaque_array(value)
    raise ValueError(f"a {type(value).__name__} is not a picture: give a path, a PIL image, an array or a tensor")


def size_of(picture: Any) -> tuple[int, int]:
    """Height and width of an opened picture in pixels."""
    if isinstance(picture, np.ndarray):
        return int(picture.shape[0]), int(picture.shape[1])
    return int(picture.height), int(picture.width)


def rgb(picture: Any, size: tuple[int, int]) -> Tensor:
    """Convert an opened picture to RGB (3, H, W) in [0, 1]; see `from_pil` and `from_array` for the values."""
    return from_array(picture, size) if isinstance(picture, np.ndarray) else from_pil(picture, size)


def grey(picture: Any, size: tuple[int, int]) -> Tensor:
    """Convert an opened picture to grey (1, H, W) in [0, 1]; colours count as in `GREY`."""
    coloured = is_pil(picture) and not (picture.mode.startswith("I") or picture.mode == "F")
    if coloured:
        return from_pil(picture.convert("L"), size)[:1]
    planes = rgb(picture, size)
    if isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] >= 3:
        return (planes * torch.tensor(GREY)[:, None, None]).sum(0, keepdim=True)
    return planes[:1]


def _path(value: str | os.PathLike[str]) -> str:
    path = os.fspath(value)
    if "://" in path or path.startswith("data:"):
        raise ValueError(f"{path[:80]!r} is a URL: download it, and give the file or a PIL image")
    return path


def _still(path: str) -> Any:
    """The picture of a file; raises ValueError for an animation. Phones' MPO files show their first picture."""
    from PIL import Image

    picture = read_image(path)  # raises if the file cannot be read
    with Image.open(Path(path)) as file:
        frames = getattr(file, "n_frames", 1) if file.format != "MPO" else 1
    if frames > 1:
        raise ValueError(f"the picture {path!r} has {frames} frames: save the one that is meant as a file of its own")
    return picture


def _opaque(picture: Any) -> Any:
    """A PIL image without an alpha channel that hides nothing; raises ValueError if pixels are transparent."""
    if not picture.has_transparency_data:
        return picture
    with_alpha = picture.convert("RGBA")
    if with_alpha.getchannel("A").getextrema()[0] < 255:
        raise ValueError(
            "it has transparent pixels, whose colour is not defined: paste it on a background, or drop the "
            'transparency with image.convert("RGB")'
        )
    return with_alpha.convert("L" if picture.mode in ("LA", "La") else "RGB")


def _opaque_array(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array without an alpha channel; raises ValueError if pixels are transparent."""
    if array.ndim != 3 or array.shape[2] != 4 or 0 in array.shape:
        return array
    whole = 1.0 if np.issubdtype(array.dtype, np.floating) else np.iinfo(array.dtype).max if array.dtype != bool else 1
    if not bool((array[:, :, 3] == whole).all()):
        raise ValueError("it has transparent pixels in its fourth channel: paste it on a background, or drop them")
    return array[:, :, :3]
