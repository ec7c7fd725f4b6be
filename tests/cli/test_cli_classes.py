"""`generate`, `compare` and `inspect` of checkpoints that read no prompt."""

from pathlib import Path

import pytest
from PIL import Image

from sadaflow.cli import main
from sadaflow.files.metadata import Recipe
from sadaflow.files.png import read_text
from support.checkpoints_classes import DDPM_CIFAR, write_dit, write_unconditional

FEW = ["--steps", "3", "--accelerate", "none"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("classes")
    write_dit(root / "dit")
    write_unconditional(root / "ddpm", DDPM_CIFAR, at_root=True)
    return root


def test_generate_without_a_prompt(folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    assert main(["generate", "--model", str(folders / "ddpm"), "--out", str(out), "--seed", "4", *FEW]) == 0
    with Image.open(out) as image:
        assert image.size == (32, 32)
    assert Recipe.from_json(read_text(out)["sadaflow"]).prompt == ""


def test_generate_by_class(folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.png"
    labels = ["--class-label", "tench", "--class-label", "3"]
    assert main(["generate", "--model", str(folders / "dit"), "--out", str(out), *labels, *FEW]) == 0
    records = [Recipe.from_json(read_text(tmp_path / f"b-{i}.png")["sadaflow"]) for i in (1, 2)]
    assert [record.options["class_labels"] for record in records] == ["tench", 3]


def test_compare_by_class(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.png"
    few = ["--steps", "8", "--accelerate", "uniform", "--solver", "euler"]
    assert main(["compare", "--model", str(folders / "dit"), "--class-label", "3", "--out", str(out), *few]) == 0
    assert out.is_file() and "uniform" in capsys.readouterr().out


def test_inspect(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folders / "ddpm")]) == 0
    printed = capsys.readouterr().out
    assert "DDPMPipeline" in printed and "UNet2DModel" in printed and "loads        yes" in printed
    assert main(["inspect", str(folders / "dit")]) == 0
    printed = capsys.readouterr().out
    assert "Transformer2DModel" in printed and "--guidance 4" in printed and "loads        yes" in printed


def test_refusals_are_one_line(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, words in (
        (["generate", "a fox", "--model", str(folders / "dit")], "this checkpoint reads no prompt"),
        (["generate", "--model", str(folders / "dit")], "give --class-label, 0 to 9, or a name"),
        (["generate", "--model", "tiny-sd"], "no prompt given"),
        (["generate", "fox", "--class-label", "3"], "has no effect on a StableDiffusion checkpoint"),
    ):
        assert main([*given, "--out", str(tmp_path / "d.png"), *FEW]) == 2
        printed = capsys.readouterr().err
        assert words in printed and printed.count("\n") == 1, printed
