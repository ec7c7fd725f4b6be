"""A bench folder that was edited or damaged: what is wrong is said and measured again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sadaflow.bench import parse_suite, run_bench
from support.bench import MIXTURE, lines

Change = Callable[[list[bytes]], list[bytes]]

LINES: dict[str, tuple[Change, str]] = {
    "bytes": (lambda old: [b"\0\0" + old[0][2:], *old[1:]], "line 1 is damaged"),
    "a digit": (lambda old: [*old[:3], old[3].replace(b'"nfe": ', b'"nfe": 1'), *old[4:]], "line 4 is damaged"),
    "an empty line": (lambda old: [*old[:3], b"\n", *old[3:]], "line 4 is damaged"),
    "no line": (lambda old: old[:5] + old[6:], ""),
    "a line twice": (lambda old: [*old, old[0]], "occurs twice"),
    "another order": (lambda old: old[::-1], ""),
    "nesting": (lambda old: [b"[" * 99999 + b"\n", *old], "line 1 is damaged"),
    "a number that is none": (lambda old: [*old[:1], b'{"model": NaN}\n', *old[1:]], "line 2 is damaged"),
}


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _outside(file: Path) -> None:
    outside = file.rename(file.parent.parent.parent / "outside")
    file.symlink_to(outside)


def _replaced_by(other: Path, file: Path) -> None:
    file.write_bytes(other.read_bytes())


FILES: dict[str, Callable[[Path, Path], object]] = {
    "short": lambda file, other: file.write_bytes(b"short"),
    "a bit": lambda file, other: file.write_bytes(_flipped(file.read_bytes())),
    "empty": lambda file, other: file.write_bytes(b""),
    "another's": lambda file, other: _replaced_by(other, file),
    "a link": lambda file, other: _outside(file),
}


def _resumed_is_whole(folder: Path, mixture: Path) -> list[str]:
    """What is said when the folder is resumed; its records and references are then those of an undisturbed run."""
    said: list[str] = []
    run_bench(parse_suite(MIXTURE, "m"), folder, resume=True, say=said.append)
    assert lines(folder) == lines(mixture)
    for file in (mixture / "references").iterdir():
        found = folder / "references" / file.name
        assert found.read_bytes() == file.read_bytes() and not found.is_symlink()
    again: list[str] = []
    run_bench(parse_suite(MIXTURE, "m"), folder, resume=True, say=again.append)
    assert again == []
    return said


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("what", LINES)
def test_damaged_lines_are_measured_again(what: str, mixture: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mixture, tmp_path / "spoiled")
    change, words = LINES[what]
    file = folder / "samples.jsonl"
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    said = _resumed_is_whole(folder, mixture)
    assert [words in line and str(file) in line for line in said] == [True] * bool(words)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("what", FILES)
def test_damaged_references_are_computed_again(what: str, mixture: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mixture, tmp_path / "spoiled")
    file, other, *_ = sorted((folder / "references").iterdir())
    FILES[what](file, other)
    said = _resumed_is_whole(folder, mixture)
    assert len(said) == 1 and str(file) in said[0]
    if what == "a link":
        assert (tmp_path / "outside").read_bytes() == file.read_bytes()


PICTURED = """
model = "MODEL"
prompts = ["fox", "owl"]
seeds = [1]
batch = 1
guidance = 1.0
[[case]]
solvers = ["euler"]
steps = [6]
[[method]]
accelerator = "uniform"
settings = [{}]
"""


def _cut(picture: Path) -> None:
    picture.write_bytes(picture.read_bytes()[:-30])


def _without_text(picture: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(picture)


def _nan(picture: Path) -> None:
    from PIL import Image

    from sadaflow.files.png import encode_png, read_text

    text = read_text(picture)
    picture.write_bytes(encode_png(Image.new("RGB", (4, 4)), {**text, "psnr": "x"}))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("spoil", [_cut, _without_text, _nan])
def test_a_damaged_worst_picture_is_made_again(
    spoil: Callable[[Path], None], checkpoint: Path, tmp_path: Path, whole_pictures: Path
) -> None:
    folder = shutil.copytree(whole_pictures, tmp_path / "spoiled")
    (picture,) = (folder / "worst").iterdir()
    before = picture.read_bytes()
    spoil(picture)
    said: list[str] = []
    suite = parse_suite(PICTURED.replace("MODEL", str(checkpoint)), "p")
    run_bench(suite, folder, resume=True, say=said.append)
    assert picture.read_bytes() == before and lines(folder) == lines(whole_pictures)
    assert "uniform" in said[0] and str(picture) in said[0] and all(str(folder) in line for line in said)


@pytest.fixture(scope="module")
def whole_pictures(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictured") / "whole"
    run_bench(parse_suite(PICTURED.replace("MODEL", str(checkpoint)), "p"), folder)
    return folder


@pytest.mark.parametrize("text", ["x = " + "[" * 9999, "x = " + "9" * 9999, "a = 1\na = 2", "\0"])
def test_a_suite_that_is_no_toml_is_named(text: str, tmp_path: Path) -> None:
    from sadaflow.bench import load_suite

    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ValueError, match="suite mine is not valid TOML") as caught:
        load_suite(str(tmp_path / "mine.toml"))
    assert len(str(caught.value)) < 500
