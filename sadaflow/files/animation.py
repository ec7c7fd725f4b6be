"""Animated GIF and WebP files by Pillow, the extra `images`, which is imported where it is used."""

import io
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_UNIT: Final = {"gif": 10, "webp": 1}
"""Milliseconds in which a format counts the time that a frame is shown."""
_USER_COMMENT: Final = 0x9286  # the tag of EXIF
_CODE: Final = b"UNICODE\0"


def encode_animation(pixels: NDArray[np.uint8], fps: int, format: str, comment: str) -> bytes:
    """The content of an animated file that repeats for ever.

    Args:
        pixels: (T, H, W, 3).
        fps: Frames per second. Frames are shown for whole units of time, so that the sum is right.
        format: "gif" or "webp".
        comment: Text that the file carries.
    """
    from PIL import Image

    first, *others = [Image.fromarray(frame) for frame in pixels]
    durations = _durations(len(pixels), fps, _UNIT[format])
    how: dict[str, Any] = {"save_all": True, "append_images": others, "duration": durations, "loop": 0}
    if format == "gif":
        how |= {"comment": comment.encode(), "optimize": False}
    else:
        how |= {"exif": _exif(comment), "quality": 90, "method": 4}
    file = io.BytesIO()
    first.save(file, format=format.upper(), **how)
    return file.getvalue()


def read_animation_comment(path: Path) -> str:
    """Read the comment of a GIF or WebP file; "" if there is none."""
    from PIL import Image

    with Image.open(path) as image:
        if image.format == "GIF":
            found = image.info.get("comment", b"")
            return found.decode() if isinstance(found, bytes) else str(found)
        held = image.getexif().get_ifd(0x8769).get(_USER_COMMENT, b"")
    return held.removeprefix(_CODE).decode("utf-16-be") if isinstance(held, bytes) else str(held)


def _exif(comment: str) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(0x8769)[_USER_COMMENT] = _CODE + comment.encode("utf-16-be")
    return exif.tobytes()


def _durations(frames: int, fps: int, unit: int) -> list[int]:
    """Milliseconds of each frame, in multiples of `unit`, whose sums are nearest to the true times."""
    times = [round(frame * 1000 / (fps * unit)) for frame in range(frames + 1)]
    return [(after - before) * unit for before, after in zip(times, times[1:], strict=False)]
