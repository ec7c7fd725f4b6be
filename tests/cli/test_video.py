"""Videos at the command line: files with their record, repeated, compared, refused."""

from pathlib import Path

import pytest
from PIL import Image

from sadaflow.cli import main
from support.checkpoints_wan import wan

SIZE = ["--height", "32", "--width", "48", "--num-frames", "5", "--steps", "12", "--guidance", "2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(wan(tmp_path_factory.mktemp("cli") / "wan"))


def test_a_video_is_written_and_made_again(model: str, tmp_path: Path) -> None:
    clip, again = tmp_path / "clip.webp", tmp_path / "again.webp"
    previews = ["--previews", str(tmp_path / "steps"), "--preview-every", "6"]
    assert main(["generate", "a red apple", "--model", model, *SIZE, "--out", str(clip), *previews]) == 0
    with Image.open(clip) as image:
        assert (getattr(image, "n_frames", 1), image.size) == (5, (48, 32))
    with Image.open(tmp_path / "steps" / "clip-step-012.png") as shown:
        assert shown.size == (2 * 48, 32)  # two latent frames
    assert main(["repeat", str(clip), "--model", model, "--out", str(again)]) == 0
    assert again.read_bytes() == clip.read_bytes()


def test_compare_draws_frames_side_by_side(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "both.png"
    flags = ["--accelerate", "uniform", "--out", str(figure)]
    assert main(["compare", "a red apple", "--model", model, *SIZE, *flags]) == 0
    assert "worst frame" in capsys.readouterr().out
    with Image.open(figure) as image:
        assert image.width > 5 * 48


@pytest.mark.parametrize(
    ("out", "words"), [("clip.png", "makes videos, written to .mp4 or .gif or .webp"), ("clip.wav", "makes videos")]
)
def test_files_of_other_things_are_refused(
    model: str, tmp_path: Path, out: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "x", "--model", model, "--out", str(tmp_path / out)]) != 0
    assert words in capsys.readouterr().err
