"""The command line from its arguments to its files and errors, with a stand-in for the checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import sadaflow.cli.load
from sadaflow.cli import main
from sadaflow.files.png import read_text
from support.cli import error_of
from support.stand_in_pipeline import Made, StandIn


def test_generate_writes_the_picture_and_its_recipe(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--steps", "20", "--seed", "7", "--negative", "blurry", "--guidance", "3.5", "--solver", "euler"]
    assert main(["generate", "red apple", *flags, "--out", "new/apple.png"]) == 0
    with Image.open("new/apple.png") as image:
        values = torch.tensor(list(image.tobytes())).view(16, 24, 3).permute(2, 0, 1) / 255
    torch.testing.assert_close(values, pipe.picture("red apple", 7) + 0.01, atol=0.51 / 255, rtol=0)
    recipe = json.loads(read_text("new/apple.png")["sadaflow"])
    wanted = {"prompt": "red apple", "negative_prompt": "blurry", "steps": 20, "seed": 7, "guidance": 3.5,
              "solver": "euler", "accelerator": "auto", "model": "stand-in", "width": 24, "height": 16,
              "modes": StandIn.modes(20, "auto")}  # fmt: skip
    assert {key: recipe[key] for key in wanted} == wanted
    assert read_text("new/apple.png")["parameters"].startswith("red apple\nNegative prompt: blurry\nSteps: 20, ")
    assert capsys.readouterr().out.startswith("new/apple.png: 20 steps, 14 of 20 evaluations\n")


def test_generate_passes_its_flags_on(pipe: StandIn) -> None:
    assert main(["generate", "a", "b", "--accelerate", "none", "--height", "32", "--width", "64"]) == 0
    (call,) = pipe.calls
    assert call["prompts"] == ["a", "b"]
    assert call["accelerator"] is None
    assert (call["height"], call["width"], call["steps"], call["seed"]) == (32, 64, 50, 0)
    assert (call["solver"], call["guidance"], call["negative_prompt"]) == ("dpmpp2m", 7.5, None)


def test_the_default_accelerator_steps_aside_for_few_steps(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """An accelerator that was asked for does not: the pipeline refuses it."""
    runs = [["3"], ["4"], ["5"], ["4", "--accelerate", "sada"]]
    notes = []
    for index, steps in enumerate(runs):
        assert main(["generate", "a", "--steps", *steps, "--out", f"{index}.png"]) == 0
        notes.append([line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")])
    assert [call["accelerator"] for call in pipe.calls] == [None, None, "auto", "sada"]
    assert [len(lines) for lines in notes] == [1, 1, 0, 0]
    assert "without an accelerator" in notes[0][0] and "needs at least 5 steps, got 3" in notes[0][0]


def test_sdxl_is_told_what_the_flags_say(pipe: StandIn) -> None:
    sizes = ["--original-size", "512", "768", "--crop", "0", "64", "--negative-target-size", "1024", "1024"]
    assert main(["generate", "a", *sizes, "--aesthetic-score", "7", "--out", "a.png"]) == 0
    told = {"original_size": (512, 768), "crop": (0, 64), "negative_target_size": (1024, 1024), "aesthetic_score": 7.0}
    (call,) = pipe.calls
    assert {name: call[name] for name in told} == told
    assert {call[name] for name in ("target_size", "negative_crop", "negative_aesthetic_score")} == {None}
    recipe = json.loads(read_text("a.png")["sadaflow"])
    assert recipe["options"] == json.loads(json.dumps(told))
    assert 'Original size: "512, 768"' in read_text("a.png")["parameters"]


def test_the_grid_is_that_of_every_run(pipe: StandIn) -> None:
    assert main(["generate", "a", "--grid", "karras", "--out", "a.png"]) == 0
    assert main(["compare", "a", "--steps", "20", "--grid", "karras", "--out", "b.png"]) == 0
    named = [call for call in pipe.calls if isinstance(call["solver"], str)]
    assert {call["grid"] for call in named} == {grid for grid in pipe.grids if isinstance(grid, str)} == {"karras"}
    assert {call["grid"] for call in pipe.calls if call not in named} == {None}  # a solver has its own
    for name in ("a.png", "b.png"):
        assert json.loads(read_text(name)["sadaflow"])["grid"] == "karras"
        assert "Schedule type: karras, " in read_text(name)["parameters"]


def test_several_prompts_get_numbered_files(pipe: StandIn) -> None:
    assert main(["generate", "a", "b", "--out", "x.png"]) == 0
    assert [path.name for path in sorted(Path.cwd().iterdir())] == ["x-1.png", "x-2.png"]
    assert json.loads(read_text("x-2.png")["sadaflow"])["prompt"] == "b"


def test_guidance_is_the_checkpoints_unless_given(pipe: StandIn) -> None:
    assert main(["generate", "a", "--model", "org/name", "--out", "1.png"]) == 0
    assert main(["generate", "a", "--guidance", "1", "--out", "2.png"]) == 0
    assert [call["guidance"] for call in pipe.calls] == [7.5, 1.0]


def test_the_commit_of_a_hub_snapshot_is_in_the_recipe(pipe: StandIn) -> None:
    pipe.name = "0123456789abcdef" * 2 + "01234567"
    assert main(["generate", "a", "--model", "org/name", "--out", "1.png"]) == 0
    assert json.loads(read_text("1.png")["sadaflow"])["model"] == f"org/name@{pipe.name}"


def test_equal_commands_write_equal_bytes(pipe: StandIn) -> None:
    for name in ("1.png", "2.png"):
        assert main(["generate", "a", "--out", name]) == 0
        pipe.seconds_per_evaluation *= 2
    assert Path("1.png").read_bytes() == Path("2.png").read_bytes()


def test_an_existing_file_is_kept_unless_told(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.png").write_bytes(b"mine")
    assert "a.png" in error_of(capsys, "generate", "x", "--out", "a.png")
    assert "a.png" in error_of(capsys, "compare", "x", "--out", "a.png")
    assert pipe.calls == [] and Path("a.png").read_bytes() == b"mine"
    assert main(["generate", "x", "--out", "a.png", "--overwrite"]) == 0
    assert Path("a.png").read_bytes() != b"mine"


@pytest.mark.parametrize("command", ["generate", "compare"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no prompt given"]),
        (["x", "--solver", "eulr"], ["eulr", "euler", "dpmpp2m"]),
        (["x", "--accelerate", "warp"], ["warp", "sada", "uniform"]),
        (["x", "--grid", "kerras"], ["--grid", "kerras", "karras"]),
        (["x", "--original-size", "512", "wide"], ["--original-size"]),
        (["x", "--steps", "0"], ["steps", "0"]),
        (["x", "--steps", "many"], ["--steps", "many"]),
        (["x", "--guidance", "strong"], ["--guidance", "strong"]),
        (["x", "--guidance", "nan"], ["--guidance", "nan"]),
        (["x", "--seed", "-1"], ["--seed", "-1"]),
        (["x", "--seed", str(2**63)], ["--seed", str(2**63)]),
        (["x", "--stepz", "3"], ["--stepz"]),
        (["x", "--out", "picture.jpg"], ["picture.jpg", ".png"]),
        (["x", "--dtype", "float8"], ["float8", "float32"]),
        (["x", "--device", "abacus"], ["--device", "abacus", "cpu"]),
        (["x", "--lora", "a.safetensors", "--quantize", "int8"], ["--lora", "leave out --quantize"]),
        (
            ["x", "--lora", "a.safetensors", "--offload", "stream", "--device", "cpu"],
            ["--lora", "leave out --offload stream"],
        ),
    ],
)
def test_bad_arguments_are_refused_before_loading(
    command: str, arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    class NoLoader:
        @staticmethod
        def from_pretrained(model: str | None, **arguments: Any) -> StandIn:
            raise AssertionError("a model was loaded")

    monkeypatch.setattr(sadaflow.cli.load, "Pipeline", NoLoader)
    monkeypatch.chdir(tmp_path)
    message = error_of(capsys, command, *arguments)
    assert all(word in message for word in words), message


def test_no_arguments_show_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert {"generate", "compare"} <= set(capsys.readouterr().out.split())


def test_unknown_command_is_one_line(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert "generat" in error_of(capsys, "generat", "x")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("height=30 is not a positive multiple of 4"),
        FileNotFoundError("no checkpoint there"),
        ConnectionError("the Hub cannot be reached\nTo work offline, pass a folder"),
        FloatingPointError("x0 is not finite at step 3 of 50"),
        ImportError("PIL output needs the extra: pip install 'sadaflow[images]'"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "compare"])
def test_errors_of_the_library_are_one_line(
    command: str, error: Exception, pipe: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: StandIn, *args: Any, **kwargs: Any) -> Made:
        raise error

    monkeypatch.setattr(StandIn, "__call__", fail)
    code = 1 if isinstance(error, FloatingPointError) else 2
    shown = " ".join(str(error).split()).replace("height=30", "--height 30")
    assert error_of(capsys, command, "x", code=code) == shown


def test_debug_shows_where_an_error_came_from(
    pipe: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: StandIn, *args: Any, **kwargs: Any) -> Made:
        raise ValueError("too deep")

    monkeypatch.setattr(StandIn, "__call__", fail)
    assert main(["generate", "x", "--debug"]) == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed and "in fail" in printed and printed.endswith("error: too deep\n")


def test_ctrl_c_leaves_no_file(
    pipe: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: StandIn, *args: Any, **kwargs: Any) -> Made:
        raise KeyboardInterrupt

    monkeypatch.setattr(StandIn, "__call__", interrupt)
    assert main(["generate", "x"]) == 130
    assert capsys.readouterr().err.count("\n") == 1 and list(Path.cwd().iterdir()) == []


EMBEDDED = Path(sadaflow.cli.load.__file__).parents[1] / "checkpoints" / "tiny-sd"
