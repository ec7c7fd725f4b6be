"""Between tensors and pictures: PIL images, NumPy arrays and files (Pillow is an extra, imported where it is used)."""

import hashlib
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from PIL.Image import Image

_LARGEST_FILE: Final = 2**30  # bytes
_SIXTEEN_BITS: Final = 65535


def to_pil(images: Tensor) -> list[Any]:
    """PIL images of a tensor (B, 3, H, W) in [0, 1]; ImportError that names the extra without Pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("PIL output needs the extra: pip install 'sadaflow[images]', or output='tensor'") from error
    arrays = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in arrays]


def from_pil(image: Any, size: tuple[int, int]) -> Tensor:
    """A PIL image as RGB (3, H, W) in [0, 1], float32, resized to `size` (H, W) by Lanczos where it differs.

    Pictures of 8 bits a channel in any mode are converted to RGB, and transparency is left out. The others are grey:

    * I;16: 16 bits, v / 65535.
    * I (32-bit integers, as which Pillow opened 16-bit PNG files before 11): v / 65535 if the largest lies within 256
      and 65535.
    * F (floats): v if all lie in [0, 1], v / 65535 if the largest lies within 256 and 65535.

    Raises:
        ValueError: if I or F hold other values: whether 8 or 16 bits are meant cannot be known. Also for modes that
            Pillow does not convert to RGB.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _resized_grey(_grey(np.asarray(image), image.mode), size)
    try:
        picture = image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"a picture of mode {image.mode} cannot be converted to RGB: {error}") from error
    return _resized(picture, size)


def from_array(array: np.ndarray[Any, Any], size: tuple[int, int]) -> Tensor:
    """An array (H, W) or (H, W, channels) as RGB (3, H, W) in [0, 1], float32, resized as `from_pil` does.

    Args:
        array: uint8 (v / 255), uint16 (v / 65535), bool, or floats in [0, 1]; 1, 3 or 4 channels, of which the fourth
            (transparency) is left out.
        size: (H, W).

    Raises:
        ValueError: for other shapes, dtypes and values.
    """
    from PIL import Image

    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"an array of shape {array.shape} is no picture: (H, W), or (H, W, channels) of 1, 3 or 4")
    planes = array[:, :, None] if array.ndim == 2 else array[:, :, :3]
    if array.dtype in (np.uint8, np.bool_):
        whole = planes.astype(np.uint8) * (255 if array.dtype == np.bool_ else 1)
        return _resized(Image.fromarray(np.repeat(whole, 3, axis=2) if whole.shape[2] == 1 else whole), size)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        values = planes.astype(np.float32) / _SIXTEEN_BITS
    elif np.issubdtype(array.dtype, np.floating):
        low, high = float(planes.min()), float(planes.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"an array of floats is a picture in [0, 1], got {low:.4g} to {high:.4g}")
        values = planes.astype(np.float32)
    else:
        raise ValueError(f"an array of {array.dtype} is not a picture: uint8, uint16, or floats in [0, 1]")
    rows = torch.cat([_resized_grey(values[:, :, channel], size)[:1] for channel in range(values.shape[2])])
    return rows.expand(3, -1, -1)


def _grey(values: np.ndarray[Any, Any], mode: str) -> np.ndarray[Any, Any]:
    """The values of a picture of mode I;16, I or F, brought to [0, 1]; see `from_pil`."""
    low, high = float(values.min()), float(values.max())
    if mode.startswith("I;16") or (low >= 0 and 255 < high <= _SIXTEEN_BITS):
        return values.astype(np.float32) / _SIXTEEN_BITS
    if low == 0 == high or (mode == "F" and low >= 0 and high <= 1):
        return values.astype(np.float32)
    remedy = 'image.convert("L") for 8 bits, Image.fromarray(values.astype("uint16")) for 16 bits'
    raise ValueError(f"a picture of mode {mode} with values from {low:.4g} to {high:.4g} is ambiguous: {remedy}")


def _resized(picture: Any, size: tuple[int, int]) -> Tensor:
    from PIL import Image

    if picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def _resized_grey(values: np.ndarray[Any, Any], size: tuple[int, int]) -> Tensor:
    """RGB (3, H, W) of one channel (h, w) of floats in [0, 1]."""
    from PIL import Image

    if values.shape != size:
        picture = Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.LANCZOS)
        values = np.asarray(picture).clip(0, 1)  # Lanczos overshoots at edges
    return torch.from_numpy(np.array(values)).expand(3, -1, -1)


def read_image(path: str | Path) -> Any:
    """The picture in a file, upright, in the mode that it has there.

    Raises ValueError naming the file for what Pillow cannot read, and for what is not a file of a picture's size.
    """
    from PIL import Image, ImageOps

    try:
        _require_picture_file(path)
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            picture.load()
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture '{path}' cannot be read: {str(error) or type(error).__name__}") from error
    return picture


def picture_digest(path: str | Path) -> str:
    """SHA-256 of the picture in a file. Raises ValueError naming the file if it cannot be one."""
    try:
        _require_picture_file(path)
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise ValueError(f"the picture '{path}' cannot be read: {error}") from error


def _require_picture_file(path: str | Path) -> None:
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
        raise ValueError("it is not a regular file")
    if found.st_size > _LARGEST_FILE:
        raise ValueError(f"it has {found.st_size} bytes, more than any picture")


def is_pil(value: object) -> bool:
    """Whether `value` is a PIL image, without importing Pillow for it."""
    return any(cls.__module__.partition(".")[0] == "PIL" and cls.__name__ == "Image" for cls in type(value).__mro__)


def to_image(image: Tensor) -> "Image":
    """A PIL image of (3, H, W) in [0, 1], rounded to 8 bits."""
    from PIL import Image

    values = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).cpu().contiguous().numpy())


THRESHOLD = 0.1
"""Smallest step of a colour, of 1, that counts as an edge."""


def edge_maps(images: Tensor) -> Tensor:
    """Thin white lines on black (B, 3, H, W) where colours of images (B, 3, H, W) in [0, 1] change.

    As Canny's detector (Canny 1986): the largest gradient of the channels, blurred before, kept where it exceeds its
    two neighbours across the edge and a threshold.
    """
    smooth = _filter(images, torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16)
    slope = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    across, down = _filter(smooth, slope), _filter(smooth, slope.T)
    size, channel = (across.square() + down.square()).sqrt().max(dim=1, keepdim=True)
    flat = (across.gather(1, channel).abs() >= down.gather(1, channel).abs())
    padded = F.pad(size, (1, 1, 1, 1))
    sideways = torch.maximum(padded[..., 1:-1, :-2], padded[..., 1:-1, 2:] * (1 + 1e-6))
    vertical = torch.maximum(padded[..., :-2, 1:-1], padded[..., 2:, 1:-1] * (1 + 1e-6))
    edges = (size >= torch.where(flat, sideways, vertical)) & (size > THRESHOLD / 2)
    return edges.to(images.dtype).expand_as(images)


def _filter(images: Tensor, kernel: Tensor) -> Tensor:
    """Every channel filtered with a kernel (3, 3), the border repeated."""
    channels = images.shape[1]
    weight = kernel.to(images).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), weight, groups=channels)
