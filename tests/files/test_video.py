"""Video files: frames, times and comment come back; strips of frames."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from sadaflow.files.video import VIDEO_ENDINGS, check_video_ending, encode_video, read_video_comment, strip

COMMENT = '{"prompt": "Äpfel, 東京, \\"rot\\""}' + "x" * 5000


def gradient(height: int = 32, width: int = 48) -> Tensor:
    """Nine smooth frames, (9, 3, height, width)."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([torch.stack([columns, rows, torch.full_like(rows, k / 8)]) for k in range(9)])


def decoded(path: Path) -> tuple[Tensor, list[float]]:
    """Frames (T, 3, H, W) of a file, and the seconds that each is shown."""
    if path.suffix == ".mp4":
        av = pytest.importorskip("av")
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        seconds = [float(1 / rate)] * len(frames)
    else:
        with Image.open(path) as image:
            pages = [(np.array(page.convert("RGB")), page.info["duration"]) for page in ImageSequence.Iterator(image)]
        frames, seconds = [page for page, _ in pages], [duration / 1000 for _, duration in pages]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 255, seconds


@pytest.mark.parametrize("ending", VIDEO_ENDINGS)
def test_frames_times_and_comment_come_back(tmp_path: Path, ending: str) -> None:
    if ending == ".mp4":
        pytest.importorskip("av")
    frames, path = gradient(), tmp_path / f"clip{ending}"
    content = encode_video(frames, 16, ending, COMMENT)
    path.write_bytes(content)
    found, seconds = decoded(path)
    assert found.shape == frames.shape
    assert float((found - frames).abs().mean()) < 0.02
    assert sum(seconds) == pytest.approx(9 / 16, abs=0.01) and max(seconds) - min(seconds) < 0.011
    assert read_video_comment(path) == COMMENT
    assert ending == ".mp4" or encode_video(frames, 16, ending, COMMENT) == content  # x264 is not exact


def test_odd_sides_are_written(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "odd.mp4").write_bytes(encode_video(gradient(31, 45), 8, ".mp4"))
    assert decoded(tmp_path / "odd.mp4")[0].shape == (9, 3, 31, 45)


def test_other_endings_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'.avi'; known: .mp4, .gif, .webp"):
        check_video_ending(".avi")
    (tmp_path / "no.gif").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"no.gif' cannot be read"):
        read_video_comment(tmp_path / "no.gif")


def test_a_strip_goes_from_the_first_frame_to_the_last() -> None:
    frames = torch.arange(9.0).view(9, 1, 1, 1).expand(9, 3, 2, 2)
    assert strip(frames, 3)[0, 0].tolist() == [0, 0, 4, 4, 8, 8]
    assert strip(frames[:2], 6).shape == (3, 2, 4)
