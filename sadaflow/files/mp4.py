"""MP4 files of H.264 by PyAV, the extra `video`, which is imported where it is used."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_OPTIONS: Final = {"crf": "17", "preset": "medium"}  # visually lossless


def require_av() -> Any:
    """The package `av`; raises ImportError with the name of the extra if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise ImportError("MP4 files need the extra: pip install 'sadaflow[video]'; .gif and .webp do not") from error
    return av


def encode_mp4(pixels: NDArray[np.uint8], fps: int, comment: str) -> bytes:
    """The content of an MP4 file.

    Args:
        pixels: (T, H, W, 3).
        fps: Frames per second.
        comment: Text that the file carries.
    """
    av, file = require_av(), io.BytesIO()
    height, width = pixels.shape[1:3]
    with av.open(file, mode="w", format="mp4") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=Fraction(fps), options=_OPTIONS)
        stream.width, stream.height = width, height
        # Half the colour resolution, which every player shows, needs even sides.
        stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        stream.codec_context.thread_count = 1  # the bytes depend on it
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def read_mp4_comment(path: Path) -> str:
    """Read the comment of an MP4 file; "" if there is none."""
    with require_av().open(str(path)) as container:
        return str(container.metadata.get("comment", ""))
