"""Between tensors and PIL pictures (Pillow is an extra, imported where it is used)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def to_pil(images: Tensor) -> list[Any]:
    """PIL images of a tensor (B, 3, H, W) in [0, 1]; ImportError that names the extra without Pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("PIL output needs the extra: pip install 'sadaflow[images]', or output='tensor'") from error
    arrays = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in arrays]


def from_pil(image: Any, size: tuple[int, int]) -> Tensor:
    """RGB (3, H, W) in [0, 1], float32, of a PIL image, resized to `size` (H, W) by Lanczos where it differs."""
    from PIL import Image

    picture = image.convert("RGB")
    if picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def read_image(path: str | Path) -> Any:
    """The picture in a file, upright, as RGB, 16-bit grey brought to 8; ValueError for what Pillow cannot read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture '{path}' cannot be read: {error}") from error
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture.convert("RGB")


def is_pil(value: object) -> bool:
    """Whether `value` is a PIL image, without importing Pillow for it."""
    return any(cls.__module__.partition(".")[0] == "PIL" and cls.__name__ == "Image" for cls in type(value).__mro__)
