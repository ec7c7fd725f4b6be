"""The program of docs/video.md runs, and the accelerators that it lists can be made."""

import re

import pytest
from PIL import Image

from sadaflow.accelerators import make_accelerator
from support.pages import read_page, run_program


def test_the_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = run_program("video.md", monkeypatch)
    assert tuple(module.out.videos.shape) == (1, 9, 3, 64, 96) and tuple(module.out.latents.shape) == (1, 16, 3, 8, 12)
    with Image.open(module.folder / "fox.webp") as image:
        assert getattr(image, "n_frames", 1) == 9


def test_the_published_settings_can_be_made() -> None:
    written = re.findall(
        r"^\| [\w, .]+ \| `((?:teacache|magcache|easycache|seacache)[^`]*)` \|", read_page("video.md"), re.M
    )
    assert len(written) == 6
    assert all(make_accelerator(text) for text in written)
