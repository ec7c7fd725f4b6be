"""What a new user of the command line meets: version, help, lists, near names, config files, dry runs."""

import re
from pathlib import Path

import pytest

import sadaflow
from sadaflow.accelerators import ACCELERATORS
from sadaflow.bench.suite.toml import shipped_suites
from sadaflow.cli import main
from sadaflow.cli.commands import COMMANDS
from sadaflow.cli.flag_errors import in_flags
from sadaflow.families import FAMILIES
from sadaflow.families.request import ARGUMENTS
from sadaflow.guidance import GUIDANCE
from sadaflow.loading.embedded import embedded_names
from sadaflow.pipeline.heartbeat import Heartbeat
from sadaflow.solvers import SOLVERS
from support.cli import error_of
from support.stand_in_pipeline import StandIn

LISTS = {
    "solvers": SOLVERS, "accelerators": ACCELERATORS, "guidance": GUIDANCE, "models": embedded_names(),
    "families": FAMILIES, "suites": shipped_suites(),
}  # fmt: skip


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sadaflow {sadaflow.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_short_help_with_examples(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main([*command.split(), "-h"]) == 0
    printed = capsys.readouterr().out
    assert "Examples:\n  sadaflow " in printed and "--debug" in printed
    assert all(line.startswith("  sadaflow ") or len(line) <= 110 for line in printed.splitlines())
    assert not re.search(r"<\w+|list\[", printed), "metavars are plain words"


def test_the_flags_of_generate_are_in_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["generate", "--help"]) == 0
    groups = re.split(r"^(\S.*):$", capsys.readouterr().out, flags=re.MULTILINE)
    held = dict(zip(groups[1::2], groups[2::2], strict=True))
    wanted = {"Basics": "--steps", "Acceleration": "--speedup", "Guidance": "--guidance", "Pictures in": "--mask",
              "ControlNet and adapters": "--lora", "Words": "--blend", "Model-specific": "--aesthetic-score",
              "Memory and devices": "--offload", "Many prompts": "--prompts"}  # fmt: skip
    for group, flag in wanted.items():
        assert f"  {flag} " in held[group]
    assert "Options" not in held, "every flag is in a group"


@pytest.mark.parametrize("what", LISTS)
def test_lists_have_a_line_for_each_name(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(LISTS[what])
    assert all(re.search(r"\w{3}.*(\.|\])$", line) for line in lines), "each name has a sentence"


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["generat"], "'generate'"),
        (["check", "x"], "'check solver' or 'check accelerator'"),
        (["list", "solver"], "'solvers'"),
        (["generate", "x", "--stepps", "3"], "--steps"),
        (["generate", "x", "--solver", "eulr"], "'euler'"),
        (["generate", "x", "--accelerate", "sadda"], "'sada'"),
        (["generate", "x", "--guidance", "apgg"], "'apg'"),
        (["generate", "x", "--grid", "kerras"], "'karras'"),
        (["generate", "x", "--model", "tiny-df"], "'tiny-sd'"),
        (["generate", "x", "--dtype", "fp61"], "'fp16'"),
        (["generate", "x", "--offload", "modle"], "'model'"),
        (["bench", "quik", "--out", "out"], "'quick'"),
    ],
)
def test_the_nearest_name_is_offered(
    arguments: list[str], near: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert near in error_of(capsys, *arguments)


def test_errors_speak_in_flags() -> None:
    names = {name: declared.flag or name for name, declared in ARGUMENTS.items()}
    said = {
        "strength= needs a picture: image=": "--strength needs a picture: --image",
        "height=30 is not a multiple of 4": "--height 30 is not a multiple of 4",
        "paste=True needs a mask: mask=": "--paste needs a mask: --mask",
        'accelerator="auto" needs calibration': '--accelerate "auto" needs calibration',
        "give image= and mask=": "give --image and --mask",
        "accelerator 'sub-grid steps=5' and SubGrid(steps=5)": "accelerator 'sub-grid steps=5' and SubGrid(steps=5)",
        "image: a picture is too small": "--image: a picture is too small",
        "mask[1]: nothing in it is white": "--mask[1]: nothing in it is white",
        "the file image: a picture": "the file image: a picture",
        "the checkpoint's own steps=5": "the checkpoint's own --steps 5",
    }
    assert {text: in_flags(text, names) for text in said} == said


def test_an_error_of_the_checkpoint_names_the_flag(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = error_of(capsys, "generate", "x", "--dry-run", "--height", "33", "--out", "x.png")
    assert error.startswith("--height 33 is not")


def test_a_config_file_holds_flags_and_the_command_line_wins(pipe: StandIn) -> None:
    Path("run.toml").write_text(
        'prompt = ["a fox", "an owl"]\nsteps = 12\nseed = 4\nguidance = 3.5\nsolver = "euler"\nout = "x.png"\n'
        'accelerate = "none"\noriginal_size = [512, 768]\nnegative-crop = [1, 2]\noverwrite = true\n'
    )
    assert main(["generate", "--config", "run.toml", "--steps", "20"]) == 0
    (call,) = pipe.calls
    expected = {"prompts": ["a fox", "an owl"], "steps": 20, "seed": 4, "guidance": 3.5, "solver": "euler"}
    expected |= {"accelerator": None, "original_size": (512, 768), "negative_crop": (1, 2)}
    assert {name: call[name] for name in expected} == expected
    assert main(["generate", "a cat", "--config", "run.toml"]) == 0
    assert pipe.calls[1]["prompts"] == ["a cat"] and pipe.calls[1]["steps"] == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepps = 3", ["run.toml", "'stepps'", "did you mean 'steps'"]),
        ("steps = 2.5", ["--steps", "2.5", "whole number"]),
        ("steps = [1, 2]", ["run.toml: steps", "single value"]),
        ("overwrite = 1", ["run.toml: overwrite", "true or false"]),
        ("seed = true", ["run.toml: seed", "True"]),
        ("[steps]", ["run.toml: steps", "text or numbers"]),
        ("steps =", ["run.toml", "TOML"]),
        ('config = "other.toml"', ["'config'"]),
    ],
)
def test_a_config_file_that_does_not_fit_is_refused(
    text: str, words: list[str], pipe: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run.toml").write_text(text)
    said = error_of(capsys, "generate", "x", "--config", "run.toml")
    assert all(word in said for word in words), said
    assert "no such file" in error_of(capsys, "generate", "x", "--config", "none.toml") and pipe.calls == []


@pytest.mark.parametrize(
    ("command", "written"),
    [("generate", ["x.png"]), ("compare", ["x.png", "x-trajectory.png", "x.html"])],
)
def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    command: str, written: list[str], pipe: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", "tiny-flux", "--steps", "20", "--width", "32", "--out", "x.png", "--dry-run"]
    assert main([command, "a fox", *flags]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    said = {row[0]: row[1] for row in rows if row[0] != "writes"}
    expected = {"steps": "20", "solver": "euler", "accelerator": "auto", "guidance": "3.5", "prompt": "a fox"}
    assert {name: said[name] for name in expected} == expected
    assert said["model"].startswith("tiny-flux: Flux, ") and said["size"].startswith("64 x 32 pixels")
    assert [row[1] for row in rows if row[0] == "writes"] == written
    assert pipe.calls == [] and list(Path.cwd().iterdir()) == []


def test_explore_writes_the_page_alone(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "a fox", "--steps", "20", "--out", "fox.html"]) == 0
    assert [path.name for path in Path.cwd().iterdir()] == ["fox.html"]
    page = Path("fox.html").read_text("utf-8")
    assert page.lower().startswith("<!doctype html>") and "a fox" in page
    assert "fox.html: " in capsys.readouterr().out
    assert ".html" in error_of(capsys, "explore", "a fox", "--out", "fox.png")


def test_long_work_says_every_half_minute_how_far_it_is() -> None:
    now, lines = [0.0], list[str]()
    beat = Heartbeat("generate", 4000, "prompt", lines.append, lambda: now[0])
    for _ in range(10):
        now[0] += 10
        beat(4)
    assert lines == [f"generate: {count} of 4000 prompts, 24/min" for count in (12, 24, 36)]
