"""Reads the masks of a call: grey, blurred at their own size, and stretched to the picture's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..files.pictures import grey, size_of

WHITE = 0.5
"""Grey value from which on a pixel is repainted, as published."""


def read_mask(mask: Any, size: tuple[int, int], blur: float, index: int = 0) -> Tensor:
    """Read an opened mask.

    Args:
        mask: A PIL image or array of any size, or a tensor (H, W) or (1, H, W) in [0, 1] of the size wanted.
        size: Height and width of the result.
        blur: Radius of Pillow's Gaussian blur in pixels of the mask, 0 for none.
        index: Its position among the masks, for errors.

    Returns:
        Grey values (1, H, W) in [0, 1].

    Raises:
        ValueError: If it is not a mask, or if nothing in it is white.
    """
    with about("mask", index):
        plane = _tensor(mask, size) if isinstance(mask, Tensor) else None
        if blur:
            own = grey(mask, size_of(mask)) if plane is None else plane
            plane = grey(_blurred(own, blur), size)
        elif plane is None:
            plane = grey(mask, size)
        if not float(plane.max()) >= WHITE:
            raise ValueError(
                f"nothing in it is white: its largest value is {float(plane.max()):.4g} of 1, and what has at least "
                f"{WHITE} is repainted"
            )
        return plane


def check_size(picture: Tensor, size: tuple[int, int]) -> None:
    """Raise ValueError if a tensor (..., H, W) has another size."""
    if tuple(picture.shape[-2:]) != size:
        raise ValueError(
            f"a tensor of {picture.shape[-2]}x{picture.shape[-1]} pixels for a picture of {size[0]}x{size[1]}: tensors "
            "are not resized"
        )


@contextmanager
def about(name: str, index: int) -> Iterator[None]:
    """Begins the errors of its body with the argument's name, and the index of a later entry."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}{f'[{index}]' if index else ''}: {error}") from error


def _tensor(mask: Tensor, size: tuple[int, int]) -> Tensor:
    plane = mask[None] if mask.dim() == 2 else mask
    if plane.dim() != 3 or plane.shape[0] != 1:
        raise ValueError(f"a tensor of shape {tuple(mask.shape)} is not a mask: expected (1, H, W)")
    check_size(plane, size)
    plane = plane.detach().float().cpu()
    low, high = (float(value) for value in plane.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"masks lie in [0, 1], where 1 is repainted; got {low:.4g} to {high:.4g}")
    return plane


def _blurred(plane: Tensor, radius: float) -> Any:
    """A mask (1, H, W) as a blurred PIL image of 8 bits."""
    from PIL import Image, ImageFilter

    return Image.fromarray((plane[0] * 255).round().byte().numpy()).filter(ImageFilter.GaussianBlur(radius))
