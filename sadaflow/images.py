"""Between tensors and PIL pictures (Pillow is an extra, imported where it is used)."""

from typing import Any

from torch import Tensor


def to_pil(images: Tensor) -> list[Any]:
    """PIL images of a tensor (B, 3, H, W) in [0, 1]; ImportError that names the extra without Pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("PIL output needs the extra: pip install 'sadaflow[images]', or output='tensor'") from error
    arrays = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in arrays]
