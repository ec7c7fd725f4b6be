"""`generate --previews` writes what the picture looks like on the way, and refuses before any work."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from sadaflow import Pipeline, Step
from sadaflow.cli import main
from sadaflow.files.images import to_pil
from support.cli import error_of

SIZE = ["--height", "16", "--width", "24"]
CALL = ["generate", "red apple", "hot dog", "--steps", "5", "--solver", "euler", "--accelerate", "none", *SIZE]


def test_files_of_every_second_step_and_of_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*CALL, "--out", "a.png", "--previews", "on the way", "--preview-every", "2"]) == 0
    names = [f"a-{sample}-step-{step:03}.png" for sample in (1, 2) for step in (2, 4, 5)]
    assert sorted(path.name for path in Path("on the way").iterdir()) == names
    pipe, seen = Pipeline.from_pretrained(), list[Step]()
    call = {"steps": 5, "solver": "euler", "height": 16, "width": 24, "output": "latent"}
    pipe(["red apple", "hot dog"], observer=seen.append, **call)  # type: ignore[arg-type]
    with Image.open("on the way/a-2-step-002.png") as image:
        expected = to_pil(pipe.preview(seen[1].x0))[1].resize((24, 16))
        assert image.size == (24, 16) and image.tobytes() == expected.tobytes()
    before = sorted(tmp_path.rglob("*"))
    assert main([*CALL, "--out", "b.png", "--previews", "on the way"]) == 0  # other names beside them
    assert len(sorted(tmp_path.rglob("*"))) == len(before) + 2 + 10
    assert bool(torch.isfinite(seen[-1].x0).all())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preview-every", "2"], "--preview-every is for previews, --previews FOLDER"),
        (["--preview-decoder", "x"], "--preview-decoder is for previews, --previews FOLDER"),
        (["--previews", "p", "--preview-every", "0"], "--preview-every must be at least 1, got 0"),
        (["--previews", "file.txt"], "--previews file.txt is a file; name a folder"),
        (["--previews", "full"], "preview 'full/a-1-step-003.png' exists and is kept; choose another folder, or"),
    ],
)
def test_refusals(
    flags: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("")
    Path("full").mkdir()
    Path("full/a-1-step-003.png").write_bytes(b"")
    assert message in error_of(capsys, *CALL, "--out", "a.png", *flags)


def test_previews_are_not_for_prompts_by_the_thousand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("all.txt").write_text("red apple\n")
    call = ("generate", "--prompts", "all.txt", "--out", "o", "--previews", "p")
    assert "no meaning with --prompts" in error_of(capsys, *call)
