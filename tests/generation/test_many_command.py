"""`sadaflow generate --prompts`: files, manifest, resuming, and rejected arguments."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import sadaflow.families.prompt_encoder
from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.files.png import read_text
from sadaflow.files.wav import read_comment
from sadaflow.generation.batches import threads
from support.checkpoints import musicldm
from support.many import command, contents, lines


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    assert main(arguments) == code
    return capsys.readouterr().err


def test_a_file_of_prompts_becomes_pictures_and_a_manifest(
    here: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        {"prompt": "fox", "id": "the-fox"},
        {"prompt": "owl", "seed": 40},
        {"prompt": "key", "negative_prompt": "rust"},
    ]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, entries)))
    arguments = ["--seed", "9", "--negative", "blur", "--guidance", "3", "--batch", "3"]
    assert main(command(checkpoint, *arguments, prompts="p.jsonl")) == 0
    assert capsys.readouterr().out == "out/manifest.jsonl: 3 prompts, 0 of them failed\n"
    found = lines(here / "out")
    names = ["the-fox.png", "000001.png", "000002.png"]
    assert [line["file"] for line in found] == names
    assert [(line["index"], line["seed"], line["negative_prompt"]) for line in found] == [
        (0, 9, "blur"), (1, 40, "blur"), (2, 11, "rust")
    ]  # fmt: skip
    pipe = Pipeline.from_pretrained(checkpoint)
    call: dict[str, Any] = {"steps": 2, "solver": "dpmpp2m", "guidance": 3.0, "height": 16, "width": 16}
    with threads(1):
        out = pipe(["fox", "owl"], seed=[9, 40], negative_prompt="blur", **call).images
        out += pipe("key", seed=11, negative_prompt="rust", **call).images
    for line, picture in zip(found, out, strict=True):
        file = here / "out" / line["file"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == line["sha256"]
        with Image.open(file) as image:
            assert image.tobytes() == picture.tobytes()
        recipe = json.loads(read_text(file)["sadaflow"])
        assert recipe.pop("solver_config")["class"] == "sadaflow.solvers:DPMpp" and "solver_config" not in line
        assert recipe.items() <= line.items() and recipe["nfe"] == 2 and recipe["modes"] == ["full"] * 2
    others = {"run.json", "manifest.jsonl", "batches/000000.jsonl"}
    assert contents(here / "out").keys() == others | set(names)


def test_sounds(here: Path, tmp_path: Path) -> None:
    music = musicldm(tmp_path / "music")
    arguments = ["generate", "--prompts", "p.txt", "--out", "out", "--model", str(music), "--steps", "1"]
    assert main([*arguments, "--accelerate", "none"]) == 0
    assert [line["file"] for line in lines(here / "out")] == [f"00000{i}.wav" for i in range(5)]
    assert json.loads(read_comment(here / "out" / "000002.wav"))["prompt"] == "red apple"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "x", "--resume"], ["--resume", "--prompts FILE"]),
        (["generate", "x", "--batch", "2"], ["--batch", "--prompts FILE"]),
        (["generate", "x", "--prompts", "p.txt", "--out", "out"], ["twice", "'x'", "p.txt"]),
        (["generate", "--prompts", "p.txt"], ["--out FOLDER"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--overwrite"], ["--overwrite", "--resume"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--batch", "0"], ["--batch", "0"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--threads", "0"], ["--threads", "0"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--steps", "0"], ["--steps", "0"]),
        (["generate", "--prompts", "none.txt", "--out", "out"], ["none.txt"]),
        (["generate", "--prompts", "bad.csv", "--out", "out"], ["bad.csv", "line 2", "'steps'"]),
        (["generate", "--prompts", "p.txt", "--out", "p.txt"], ["p.txt", "folder"]),
        (["generate", "--prompts", "p.txt", "--out", "."], ["'.'", "not empty", "another folder"]),
        (["generate", "--prompts", "p.txt", "--out", ".", "--resume"], ["'.'", "not empty", "another folder"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--seconds", "3"], ["--seconds", "pictures"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--height", "30"], ["--height 30"]),
        (["compare", "--prompts", "p.txt"], ["--prompts"]),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    arguments: list[str], words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.csv").write_text("prompt,steps\nx,3\n")
    before = contents(here)
    message = refused(capsys, *arguments)
    assert all(word in message for word in words), message
    assert contents(here) == before and not (here / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], ["not empty", "--resume"]),
        (["--resume", "--steps", "3"], ["settings.steps (then 2, now 3)"]),
        (["--resume", "--seed", "1"], ["prompts.sha256"]),
        (["--resume", "--batch", "2"], ["batch (then 4, now 2)"]),
        (["--resume", "--threads", "2"], ["threads (then 1, now 2)"]),
        (["--resume", "--model", "other"], ["weights"]),
        (["--resume", "--negative", "blur"], ['settings.negative_prompt (then null, now "blur")']),
    ],
)
def test_a_folder_begun_otherwise_is_refused(
    change: list[str], words: list[str], here: Path, checkpoint: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = shutil.copytree(checkpoint, tmp_path / "a" / "tiny")
    stop = Stop(after=1)
    with monkeypatch.context() as stopped:
        stopped.setattr(Pipeline, "__call__", stop(Pipeline.__call__))
        assert main(command(model)) == 130
    if "other" in change:  # other weights under the same name
        change = ["--resume"]
        weights = model / "unet" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(weights)
        save_file(tensors | {"conv_out.bias": tensors["conv_out.bias"] + 1e-6}, weights)
    before = contents(here)
    message = refused(capsys, *command(model, *change))
    assert all(word in message for word in words), message
    assert contents(here) == before


@dataclass
class Stop:
    """Makes a call of a pipeline raise from the `after`-th on, or for one prompt."""

    after: int = 0
    error: BaseException = field(default_factory=KeyboardInterrupt)
    prompt: str | None = None
    calls: int = 0

    def __call__(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(pipe: Pipeline, **arguments: Any) -> Any:
            self.calls += 1
            if self.calls > self.after and (self.prompt is None or self.prompt in arguments["prompt"]):
                raise self.error
            return original(pipe, **arguments)

        return call


def test_ctrl_c_says_how_to_resume(
    here: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(checkpoint, "--batch", "2", out="whole")) == 0
    with monkeypatch.context() as stopped:
        stopped.setattr(Pipeline, "__call__", Stop(after=2)(Pipeline.__call__))
        assert main(command(checkpoint, "--batch", "2")) == 130
    assert "--resume" in capsys.readouterr().err and not (here / "out" / "manifest.jsonl").exists()
    assert main(command(checkpoint, "--batch", "2", "--resume")) == 0
    assert contents(here / "out") == contents(here / "whole")


def test_a_bad_prompt_is_said_aloud(
    here: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose embedding is not finite: the sampling loop itself stops at it."""
    encode = sadaflow.families.prompt_encoder.ClipText.encode

    def spoiled(self: Any, prompts: Sequence[str]) -> torch.Tensor:
        spoil = torch.tensor([float("nan") if prompt == "owl" else 0.0 for prompt in prompts])
        return encode(self, prompts) + spoil.view(-1, 1, 1)

    monkeypatch.setattr(sadaflow.families.prompt_encoder.ClipText, "encode", spoiled)
    assert main(command(checkpoint)) == 1
    printed = capsys.readouterr()
    assert printed.out == "out/manifest.jsonl: 5 prompts, 1 of them failed\n"
    assert "prompt 1 failed, FloatingPointError: x0 is not finite at step 0" in printed.err
    assert "error: failed: prompts 1;" in printed.err and "--resume" in printed.err
    assert [line["file"] is None for line in lines(here / "out")] == [False, True, False, False, False]


def test_a_full_disk_is_one_error_and_a_hint(
    here: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(Pipeline, "__call__", Stop(after=1, error=error)(Pipeline.__call__))
    message = refused(capsys, *command(checkpoint), code=1)
    assert "error: [Errno 28] No space left on device" in message and "--resume continues it" in message
    assert len(list((here / "out").glob("*.png"))) == 4
