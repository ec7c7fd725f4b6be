"""MP4 files of H.264 by PyAV, the extra `video`, which is imported where it is used."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_OPTIONS: Final = {  # visually lossless; the file names its colour space
    "crf": "17",
    "preset": "medium",
    "x264-params": "colorprim=bt709:transfer=bt709:colormatrix=bt709",
}
_LUMA: Final = (0.2126, 0.7152, 0.0722)  # of red, green and blue, ITU-R BT.709


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
        halved = height % 2 == width % 2 == 0
        stream.pix_fmt = "yuv420p" if halved else "yuv444p"
        stream.codec_context.thread_count = 1
        for picture in pixels:
            planes = luma_and_colour(picture, halved=halved)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format=stream.pix_fmt)))
        container.mux(stream.encode())
    return file.getvalue()


def luma_and_colour(picture: NDArray[np.uint8], *, halved: bool) -> NDArray[np.uint8]:
    """Convert RGB to luma and two colour differences of limited range (ITU-R BT.709).

    It is done here, and not by FFmpeg, so that the colour space is known.

    Args:
        picture: (H, W, 3).
        halved: Whether the colour differences are averaged over 2 x 2 pixels.

    Returns:
        The planes one after another: (3, H, W), or (H * 3 / 2, W) if they are halved.
    """
    red, green, blue = np.moveaxis(picture.astype(np.float32) / 255, -1, 0)
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    colours = [(blue - luma) / (2 - 2 * _LUMA[2]), (red - luma) / (2 - 2 * _LUMA[0])]
    if halved:
        height, width = luma.shape
        colours = [plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for plane in colours]
    planes = [16 + 219 * luma, *(128 + 224 * plane for plane in colours)]
    whole = [np.rint(plane).astype(np.uint8) for plane in planes]
    return np.concatenate([plane.reshape(-1, luma.shape[1]) for plane in whole]) if halved else np.stack(whole)


def read_mp4_comment(path: Path) -> str:
    """Read the comment of an MP4 file; "" if there is none."""
    with require_av().open(str(path)) as container:
        return str(container.metadata.get("comment", ""))
