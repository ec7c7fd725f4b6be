"""Pictures on the command line: flags, prompt files, the record in PNG files, and the figure of compare."""

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from sadaflow.cli import main
from sadaflow.files.png import read_text
from sadaflow.generation.prompt_file import read_prompt_file
from support.cli import error_of
from support.pictures import mask, picture


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture().save("in.png")
    picture(1).save("other.png")
    mask().save("mask.png")


def test_generate_starts_from_a_picture_and_records_it() -> None:
    flags = ["--steps", "8", "--accelerate", "none", "--seed", "3", "--out", "out.png"]
    assert main(["generate", "red apple", "--image", "in.png", "--mask", "mask.png", "--strength", "0.5", *flags]) == 0
    recipe = json.loads(read_text("out.png")["sadaflow"])
    assert (recipe["width"], recipe["height"], recipe["nfe"]) == (56, 40, 4.0)
    recorded = recipe["options"]
    assert (recorded["image"], recorded["mask"], recorded["strength"]) == ("in.png", "mask.png", 0.5)
    for name, file in (("image_sha256", "in.png"), ("mask_sha256", "mask.png")):
        assert recorded[name] == hashlib.sha256(Path(file).read_bytes()).hexdigest()


def test_a_file_is_repeated_from_its_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--image", "in.png", "--mask", "mask.png", "--strength", "0.6", "--steps", "8", "--accelerate", "none"]
    assert main(["generate", "red apple", *flags, "--out", "first.png"]) == 0
    assert main(["repeat", "first.png", "--out", "again.png"]) == 0
    assert Path("first.png").read_bytes() == Path("again.png").read_bytes()
    picture(5).save("in.png")
    capsys.readouterr()
    assert "the image 'in.png' is not the one that the record was made with" in error_of(capsys, "repeat", "first.png")


def test_a_picture_for_each_prompt_and_strength_0() -> None:
    both = ["--image", "in.png", "--image", "other.png", "--strength", "0", "--out", "out.png"]
    assert main(["generate", "a", "b", *both]) == 0
    for index, source in ((1, "in.png"), (2, "other.png")):
        with Image.open(f"out-{index}.png") as made, Image.open(source) as given:
            assert made.convert("RGB").tobytes() == given.convert("RGB").tobytes()
        assert json.loads(read_text(f"out-{index}.png")["sadaflow"])["options"]["image"] == source


def test_prompt_files_carry_pictures(tmp_path: Path) -> None:
    Path("deep").mkdir()
    picture(2).save("deep/own.png")
    lines = [{"prompt": "a", "image": "own.png", "strength": 0.5}, {"prompt": "b", "image": "../in.png"}]
    Path("deep/prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    many = ["generate", "--prompts", "deep/prompts.jsonl", "--out", "made", "--steps", "4", "--accelerate", "none"]
    assert main(many) == 0
    manifest = [json.loads(line) for line in Path("made/manifest.jsonl").read_text().splitlines()]
    assert [line["nfe"] for line in manifest if "file" in line] == [2.0, 3.0]  # half of 4 steps, and 0.8 of them
    prompts = read_prompt_file(Path("deep/prompts.jsonl"))
    assert (prompts[0].image, prompts[0].strength, prompts[1].strength) == ("deep/own.png", 0.5, None)
    Path("own.csv").write_text("prompt,image,strength\na,in.png,0.25\nb,other.png,\n")
    assert [prompt.strength for prompt in read_prompt_file(Path("own.csv"))] == [0.25, None]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"prompt": "a", "image": "in.png"}', '{"prompt": "b"}'], "line 2 has no image, unlike the lines before"),
        (['{"prompt": "a", "image": "none.png"}'], "line 1 has an image that cannot be used: the picture"),
        (['{"prompt": "a", "image": 3}'], "line 1 has the image 3, expected the name of a file"),
        (['{"prompt": "a", "image": "in.png", "strength": "x"}'], "line 1 has the strength 'x', expected a number"),
        (['{"prompt": "a", "image": "in.png", "strength": 2}'], "line 1 strength must lie between 0 and 1, got 2"),
    ],
)
def test_lines_that_cannot_be_used(lines: list[str], words: str) -> None:
    Path("prompts.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=words):
        read_prompt_file(Path("prompts.jsonl"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--image", "none.png"], "--image: the picture 'none.png' cannot be read"),
        (["--image", "https://example.org/a.png"], "--image: 'https://example.org/a.png' is a URL"),
        (["--mask", "mask.png"], "--mask needs a picture"),
        (["--image", "in.png", "--strength", "2"], "--strength must lie between 0 and 1, got 2"),
        (["--image", "in.png", "--image", "other.png"], "image has 2 pictures for 1 prompt(s): give one for all"),
    ],
)
def test_what_is_refused_is_one_line(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in error_of(capsys, "generate", "a", *flags)


@pytest.mark.slow
def test_compare_shows_input_and_mask() -> None:
    pictures = ["--image", "in.png", "--mask", "mask.png", "--strength", "0.8"]
    assert main(["compare", "red apple", *pictures, "--steps", "20", "--out", "with.png"]) == 0
    assert main(["compare", "red apple", "--height", "40", "--width", "56", "--steps", "20", "--out", "plain.png"]) == 0
    with Image.open("with.png") as wide, Image.open("plain.png") as narrow:
        assert wide.width > 1.6 * narrow.width  # five panels beside three
