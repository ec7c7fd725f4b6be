"""Writes and reads video files with a comment: MP4 (PyAV, the extra `video`), GIF and WebP (Pillow)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from .animation import encode_animation, read_animation_comment
from .mp4 import encode_mp4, read_mp4_comment, require_av

VIDEO_ENDINGS: Final = (".mp4", ".gif", ".webp")
"""Endings of the files that videos are written to; the first is the usual one."""

_READ: Final[Mapping[str, Callable[[Path], str]]] = {
    ".mp4": read_mp4_comment,
    ".gif": read_animation_comment,
    ".webp": read_animation_comment,
}


def check_video_ending(ending: str) -> None:
    """Check that videos can be written to files with an ending.

    Raises:
        ValueError: If the ending is not one of `VIDEO_ENDINGS`.
        ImportError: If a package is missing; the message names the extra.
    """
    if ending not in VIDEO_ENDINGS:
        raise ValueError(f"a video cannot be written to {ending!r}; known: {', '.join(VIDEO_ENDINGS)}")
    if ending == ".mp4":
        require_av()


def encode_video(frames: Tensor, fps: int, ending: str, comment: str = "") -> bytes:
    """The content of a video file. Equal frames give equal bytes in GIF and WebP; x264 may differ in a few of them.

    Args:
        frames: (T, 3, H, W) in [0, 1].
        fps: Frames per second.
        ending: One of `VIDEO_ENDINGS`.
        comment: Text that the file carries.

    Raises:
        ValueError, ImportError: See `check_video_ending`.
    """
    check_video_ending(ending)
    pixels = (frames.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    if ending == ".mp4":
        return encode_mp4(pixels, fps, comment)
    return encode_animation(pixels, fps, ending.removeprefix("."), comment)


def read_video_comment(path: str | Path) -> str:
    """Read the comment of a video file; "" if there is none.

    Raises:
        ValueError: If the file's ending is not one of `VIDEO_ENDINGS`, or if it cannot be read.
        ImportError: If a package is missing.
    """
    path = Path(path)
    check_video_ending(path.suffix.lower())
    try:
        return _READ[path.suffix.lower()](path)
    except (OSError, SyntaxError, UnicodeDecodeError) as error:  # Pillow raises SyntaxError for a damaged file
        raise ValueError(f"'{path}' cannot be read: {error}") from error


def strip(frames: Tensor, count: int = 6) -> Tensor:
    """Frames of a video side by side, evenly spaced from the first to the last.

    Args:
        frames: (T, C, H, W).
        count: Most frames shown.

    Returns:
        (C, H, W * number of frames shown).
    """
    shown = torch.linspace(0, len(frames) - 1, min(count, len(frames))).round().long().tolist()
    return torch.cat([frames[index] for index in shown], dim=-1)
