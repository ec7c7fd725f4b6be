"""Reads and writes PNG files with text chunks."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import check_target, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image


def write_png(path: str | Path, image: "Image", text: Mapping[str, str] | None = None, overwrite: bool = False) -> None:
    """Write a PNG file, which appears under its name when it is complete; missing parent folders are created.

    Args:
        path: The file.
        image: The picture.
        text: Text chunks by keyword; they are stored as tEXt, or as iTXt if they are not Latin-1.
        overwrite: Whether an existing file is replaced.

    Raises:
        ValueError, FileExistsError, NotADirectoryError: See `check_target`.
    """
    path = Path(path)
    check_target(path, overwrite)
    content = encode_png(image, text)
    write_whole(path, lambda file: file.write(content), overwrite)


def encode_png(image: "Image", text: Mapping[str, str] | None = None) -> bytes:
    """The content of the PNG file that `write_png` writes for these arguments."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    file = io.BytesIO()
    image.save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def read_text(path: str | Path) -> dict[str, str]:
    """Read the text chunks of a PNG file, by keyword."""
    from PIL import Image

    with Image.open(path) as image:
        image.load()  # chunks may also follow the pixels
        chunks: dict[Any, Any] = getattr(image, "text", {})
    return {str(key): str(value) for key, value in chunks.items()}
