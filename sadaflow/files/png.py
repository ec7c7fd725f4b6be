"""PNG files with text chunks."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import check_target, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image


def write_png(path: str | Path, image: "Image", text: Mapping[str, str] | None = None, overwrite: bool = False) -> None:
    """Write `image` with text chunks (tEXt, or iTXt where a text is not Latin-1); missing folders are made.

    The file appears under its name only when complete. Raises as `check_target`.
    """
    path = Path(path)
    check_target(path, overwrite)
    content = encode_png(image, text)
    write_whole(path, lambda file: file.write(content), overwrite)


def encode_png(image: "Image", text: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a PNG file, as `write_png` writes it."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    file = io.BytesIO()
    image.save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def read_text(path: str | Path) -> dict[str, str]:
    """The text chunks of a PNG file."""
    from PIL import Image

    with Image.open(path) as image:
        image.load()  # chunks may also follow the pixels
        chunks: dict[Any, Any] = getattr(image, "text", {})
    return {str(key): str(value) for key, value in chunks.items()}
