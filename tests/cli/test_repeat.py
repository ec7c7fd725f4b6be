"""`sadaflow repeat` makes a file again to the byte; it refuses files without a record, and code that is not trusted."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadaflow.accelerators import Uniform, to_config
from sadaflow.cli import main
from sadaflow.cli.repeat import RepeatOptions, generate_options
from sadaflow.files.metadata import Recipe
from sadaflow.files.png import read_text, write_png
from sadaflow.generation.outputs import recorded_request
from support.cli import error_of
from support.stranger import registries_restored

SIZE = ["--height", "16", "--width", "16", "--device", "cpu"]
OWN = """
from dataclasses import dataclass
from sadaflow.accelerators import Uniform


@dataclass(frozen=True)
class OwnOfATest(Uniform):
    pass
"""


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with registries_restored(monkeypatch):
        yield
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "how",
    [
        ["--solver", "sa-solver tau=0.5", "--accelerate", "none", "--steps", "4", "--grid", "karras"],
        ["--solver", "euler", "--speedup", "1.5", "--steps", "12", "--negative", "blur"],
    ],
)
def test_a_file_is_made_again_to_the_byte(how: list[str]) -> None:
    assert main(["generate", "fox", "owl", "--seed", "7", "--out", "a.png", *how, *SIZE]) == 0
    assert main(["repeat", "a-2.png", "--out", "b.png", "--device", "cpu"]) == 0
    assert Path("a-2.png").read_bytes() == Path("b.png").read_bytes()
    assert main(["repeat", "b.png", "--out", "c.png", "--device", "cpu"]) == 0
    assert Path("b.png").read_bytes() == Path("c.png").read_bytes()


def test_code_of_a_stranger_is_imported_only_if_it_is_trusted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own_of_a_test.py").write_text(OWN)
    how = ["--steps", "8", "--solver", "euler", "--accelerate", "./own_of_a_test.py:OwnOfATest every=3"]
    assert main(["generate", "fox", "--out", "a.png", *how, *SIZE]) == 0
    capsys.readouterr()
    del sys.modules["./own_of_a_test.py"]
    Path("own_of_a_test.py").write_text(OWN + "\nprint('imported')\n")
    said = error_of(capsys, "repeat", "a.png", "--out", "b.png", "--device", "cpu")
    assert "./own_of_a_test.py:OwnOfATest" in said and "--trusted" in said
    assert main(["repeat", "a.png", "--out", "b.png", "--device", "cpu", "--trusted"]) == 0
    assert "imported" in capsys.readouterr().out
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def recipe(**changed: object) -> Recipe:
    made = Recipe(prompt="fox", model="tiny-sd", steps=3, seed=1, width=16, height=16, solver="euler", guidance=2.0)
    return replace(made, **changed)  # type: ignore[arg-type]


def picture(name: str, text: dict[str, str]) -> str:
    write_png(name, Image.fromarray(np.zeros((2, 2, 3), np.uint8)), text)
    return name


def test_a_record_of_an_earlier_version_is_made_again_by_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    file = picture("old.png", {"sadaflow": recipe(accelerator=None).to_json()})
    assert main(["repeat", file, "--out", "new.png", "--device", "cpu"]) == 0
    assert "3 of 3 evaluations" in capsys.readouterr().out
    assert json.loads(read_text("new.png")["sadaflow"])["solver"] == "euler"
    with pytest.raises(ValueError, match="has no solver_config"):
        recorded_request(recipe(), exact=True)


def test_what_is_no_record_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("damaged.png").write_bytes(b"no picture")
    Path("empty.wav").write_bytes(b"")
    Path("text.txt").write_text("x")
    bad = {"format": 9}
    for file, said in (
        ("none.png", "there is no file 'none.png'"), ("text.txt", "is none of .png, .wav, .mp4"),
        ("damaged.png", "cannot be read"), ("empty.wav", "holds no record"), (picture("a.png", {}), "holds no record"),
        (picture("b.png", {"sadaflow": "{}"}), "is not the record of a run"),
        (picture("c.png", {"sadaflow": recipe(solver="os:system").to_json()}), "code outside of this library"),
        (picture("d.png", {"sadaflow": recipe(solver_config=bad).to_json()}), "has format 9, this version reads 1"),
        (picture("g.png", {"sadaflow": recipe(options={"stopped_after": 2}).to_json()}), "stopped after 2 steps"),
        (picture("h.png", {"sadaflow": recipe(options={"lora": "a"}).to_json()}), "not a value of the flag --lora"),
        (picture("i.png", {"sadaflow": recipe(model=3).to_json()}), "is not the record of a run"),
        (picture("j.png", {"sadaflow": recipe(options=[]).to_json()}), "is not the record of a run"),
        (picture("k.png", {"sadaflow": recipe(solver_config=5).to_json()}), "is a mapping"),
        (picture("e.png", {"sadaflow": recipe(model="nowhere-at-all").to_json()}), "nowhere-at-all"),
        (picture("f.png", {"sadaflow": recipe(solver_config=to_config(Uniform())).to_json()}), "solver=Uniform"),
    ):  # fmt: skip
        assert said in error_of(capsys, "repeat", file, "--out", "out.png", "--device", "cpu"), file


def test_a_sound_of_so_many_seconds_has_no_height_beside_them() -> None:
    request = generate_options(recipe(options={"seconds": 2.0}), RepeatOptions(Path("a.wav"))).request
    assert request.seconds == 2.0 and request.height is None
