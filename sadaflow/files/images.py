"""Converts pictures between tensors, PIL images, NumPy arrays and files (Pillow is an extra, imported where used)."""

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
    """Convert images (B, 3, H, W) in [0, 1] to PIL images of 8 bits.

    Raises:
        ImportError: If Pillow is not installed; the message names the extra.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("PIL output needs the extra: pip install 'sadaflow[images]', or output='tensor'") from error
    arrays = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in arrays]


def from_pil(image: Any, size: tuple[int, int]) -> Tensor:
    """Convert a PIL image to RGB (3, H, W) in [0, 1], float32.

    Images of 8 bits per channel are converted to RGB without transparency. The other modes are grey, with values v:

    * I;16 (16 bits): v / 65535.
    * I (32-bit integers; Pillow before 11 opened 16-bit PNG files so): v / 65535 if the largest value is from 256 to
      65535.
    * F (floats): v if all values lie in [0, 1]; v / 65535 if the largest is from 256 to 65535.

    Args:
        image: The image.
        size: Height and width of the result in pixels; an image of another size is resized with the Lanczos filter.

    Raises:
        ValueError: If an image of mode I or F holds other values, so that its range is unknown; or if Pillow cannot
            convert the mode to RGB.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _resized_grey(_grey(np.asarray(image), image.mode), size)
    try:
        picture = image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"a picture of mode {image.mode} cannot be converted to RGB: {error}") from error
    return _resized(picture, size)


def from_array(array: np.ndarray[Any, Any], size: tuple[int, int]) -> Tensor:
    """Convert an array to RGB (3, H, W) in [0, 1], float32.

    Args:
        array: Picture (H, W) or (H, W, channels) with 1, 3 or 4 channels; the fourth (transparency) is ignored. The
            dtype is uint8 (values v / 255), uint16 (v / 65535), bool, or floats in [0, 1].
        size: Height and width of the result in pixels; see `from_pil`.

    Raises:
        ValueError: If the shape, the dtype or a value is another.
    """
    from PIL import Image

    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"an array of shape {array.shape} is not a picture: expected (H, W) or (H, W, 1, 3 or 4)")
    planes = array[:, :, None] if array.ndim == 2 else array[:, :, :3]
    if array.dtype in (np.uint8, np.bool_):
        whole = planes.astype(np.uint8) * (255 if array.dtype == np.bool_ else 1)
        return _resized(Image.fromarray(np.repeat(whole, 3, axis=2) if whole.shape[2] == 1 else whole), size)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        values = planes.astype(np.float32) / _SIXTEEN_BITS
    elif np.issubdtype(array.dtype, np.floating):
        low, high = float(planes.min()), float(planes.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"an array of floats must lie in [0, 1], got {low:.4g} to {high:.4g}")
        values = planes.astype(np.float32)
    else:
        raise ValueError(f"an array of {array.dtype} is not a picture: expected uint8, uint16, or floats in [0, 1]")
    rows = torch.cat([_resized_grey(values[:, :, channel], size)[:1] for channel in range(values.shape[2])])
    return rows.expand(3, -1, -1)


def _grey(values: np.ndarray[Any, Any], mode: str) -> np.ndarray[Any, Any]:
    """Scale the values of an image of mode I;16, I or F to [0, 1]; see `from_pil`."""
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
    """Convert one channel (h, w) of floats in [0, 1] to RGB (3, H, W) of this size."""
    from PIL import Image

    if values.shape != size:
        picture = Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.LANCZOS)
        values = np.asarray(picture).clip(0, 1)  # Lanczos overshoots at edges
    return torch.from_numpy(np.array(values)).expand(3, -1, -1)


def read_image(path: str | Path) -> Any:
    """Open a picture file as a PIL image in the file's mode, rotated as its EXIF data says.

    Raises:
        ValueError: If Pillow cannot read it, or if it is not a regular file or larger than 1 GiB.
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
    """SHA-256 of a picture file, in hexadecimal digits.

    Raises:
        ValueError: If it cannot be read, or if it is not a regular file or larger than 1 GiB.
    """
    try:
        _require_picture_file(path)
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise ValueError(f"the picture '{path}' cannot be read: {error}") from error


def _require_picture_file(path: str | Path) -> None:
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):  # reading from a pipe would block
        raise ValueError("it is not a regular file")
    if found.st_size > _LARGEST_FILE:
        raise ValueError(f"it has {found.st_size} bytes; a picture file has at most {_LARGEST_FILE}")


def is_pil(value: object) -> bool:
    """Whether `value` is a PIL image; does not import Pillow."""
    return any(cls.__module__.partition(".")[0] == "PIL" and cls.__name__ == "Image" for cls in type(value).__mro__)


def to_image(image: Tensor) -> "Image":
    """Convert an image (3, H, W) in [0, 1] to a PIL image of 8 bits."""
    from PIL import Image

    values = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).cpu().contiguous().numpy())


THRESHOLD = 0.1
"""Smallest colour step that counts as an edge, as a fraction of the range."""


def edge_maps(images: Tensor) -> Tensor:
    """Detect edges, following Canny (1986).

    The images are blurred, and the largest gradient among the channels is computed. A pixel is an edge if its gradient
    exceeds a threshold and those of its two neighbours across the edge.

    Args:
        images: Images (B, 3, H, W) in [0, 1].

    Returns:
        Lines one pixel wide, 1 on 0, of shape (B, 3, H, W).
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
    """Filter every channel with a kernel (3, 3), with replicated borders."""
    channels = images.shape[1]
    weight = kernel.to(images).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), weight, groups=channels)
