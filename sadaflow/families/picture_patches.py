"""Cuts pictures into the patches that the vision half of Qwen2.5-VL reads (arXiv 2502.13923)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor

from sadaflow.models.config import NUMBERS, POSITIVE, WIDTH, Kind, Table

_MOST_STRETCHED = 200


def _is_size(value: Any) -> bool:
    """Whether a value names the smallest and the largest number of pixels."""
    names = ("shortest_edge", "longest_edge")
    return isinstance(value, dict) and value.keys() == set(names) and all(WIDTH.holds(value[name]) for name in names)


_PIXELS: Final = Kind("a positive whole number", lambda value: type(value) is int and value > 0)
_TABLE: Final = Table(
    "preprocessor_config.json",
    kinds={
        **dict.fromkeys(("patch_size", "merge_size", "temporal_patch_size"), WIDTH),
        **dict.fromkeys(("min_pixels", "max_pixels"), _PIXELS),
        **dict.fromkeys(("image_mean", "image_std"), NUMBERS),
        "rescale_factor": POSITIVE,
    },
    only={
        **dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"), (True,)),
        "do_center_crop": (False, None),
        "resample": (3,),
        "image_processor_type": ("Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast", "Qwen2VLImageProcessorPil"),
    },
    ignored={
        **dict.fromkeys(("processor_class", "data_format", "input_data_format", "return_tensors"), "of the program"),
        **dict.fromkeys(("device", "disable_grouping", "default_to_square", "crop_size"), "of the program"),
        "size": "min_pixels and max_pixels have its numbers",
    },
)


@dataclass(frozen=True)
class PatchSettings:
    """How pictures are resized, normalised and cut; names are those of preprocessor_config.json.

    Attributes:
        patch_size: Pixels along each side of a patch.
        merge_size: Patches along each side of a token.
        temporal_patch_size: Number of times that a picture is repeated, as frames.
        min_pixels: Smallest number of pixels.
        max_pixels: Largest number of pixels.
        image_mean: Mean of each colour.
        image_std: Standard deviation of each colour.
        rescale_factor: Factor from 8-bit values to [0, 1].
    """

    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    image_mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    rescale_factor: float = 1 / 255

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Reads a preprocessor_config.json; raises ValueError if a field is not supported."""
        size: Any = raw.get("size")
        limits = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]} if _is_size(size) else {}
        return cls(**_TABLE.read({**limits, **{name: value for name, value in raw.items() if value is not None}}))

    def fitted(self, height: int, width: int) -> tuple[int, ...]:
        """The size nearest to (height, width) that is made of whole tokens and keeps the limits.

        Raises:
            ValueError: If one side is more than 200 times the other.
        """
        if max(height, width) > _MOST_STRETCHED * min(height, width):
            raise ValueError(f"image: a picture of {height}x{width} pixels is too narrow to be read")
        unit = self.patch_size * self.merge_size
        sides = tuple(round(side / unit) * unit for side in (height, width))
        if sides[0] * sides[1] > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            return tuple(max(unit, math.floor(side / shrink / unit) * unit) for side in (height, width))
        if sides[0] * sides[1] < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            return tuple(math.ceil(side * grow / unit) * unit for side in (height, width))
        return sides

    def patches(self, picture: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patches of a picture, and their grid.

        The picture is rounded to 8 bits and resized by Pillow's bicubic filter, as published.

        Args:
            picture: RGB (3, H, W) in [0, 1].

        Returns:
            (h w, 3 * temporal_patch_size * patch_size^2), those of one token after another; and (h, w).
        """
        resized = _bicubic(picture, self.fitted(*picture.shape[1:])).float() * self.rescale_factor
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.image_mean, self.image_std))
        normalised, merge, side = (resized - mean) / std, self.merge_size, self.patch_size
        rows, columns = normalised.shape[1] // side, normalised.shape[2] // side
        cut = normalised.reshape(3, rows // merge, merge, side, columns // merge, merge, side)
        tokens = cut.permute(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
        repeated = tokens.expand(-1, -1, -1, -1, -1, self.temporal_patch_size, -1, -1)
        return repeated.reshape(rows * columns, -1), (rows, columns)


def _bicubic(picture: Tensor, size: tuple[int, ...]) -> Tensor:
    """A picture (3, H, W) in [0, 1] resized to `size`, in 8 bits."""
    from PIL import Image

    array = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(array).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
