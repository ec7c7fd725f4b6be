"""Pictures led back to noise and edited, in Python and at the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.files.png import read_text
from sadaflow.generation.prompt_file import read_prompt_file
from sadaflow.pipeline.inversion import Inversion
from support.checkpoints_flux import flux
from support.cli import error_of
from support.pictures import mask, picture


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained()


@pytest.fixture(scope="module")
def apple(pipe: Pipeline) -> Image.Image:
    made: Image.Image = pipe("red apple", steps=8, height=32, width=32, seed=1).images[0]
    return made


@pytest.fixture(scope="module")
def latents(pipe: Pipeline, apple: Image.Image) -> torch.Tensor:
    return pipe("", image=apple, strength=0, output="latent").latents


def back(pipe: Pipeline, found: Inversion) -> torch.Tensor:
    return pipe("red apple", noise=found.noise, solver=found.solver, guidance=1, output="latent").latents


def gap(ours: torch.Tensor, latents: torch.Tensor) -> float:
    return float((ours - latents).square().mean().sqrt() / latents.square().mean().sqrt())


def test_sampling_leads_back_to_the_picture(pipe: Pipeline, apple: Image.Image, latents: torch.Tensor) -> None:
    found = pipe.invert(apple, "red apple", steps=6)
    assert gap(back(pipe, found), latents) == pytest.approx(found.stats.error[0], abs=1e-4)
    assert found.stats.error[0] < 1e-3
    assert found.stats.method == "exact" and 1 < found.stats.iterations <= 100
    assert found.noise.shape == latents.shape and gap(found.noise, latents) > 0.1


def test_stochastic_solvers_lead_back_to_rounding(
    pipe: Pipeline, apple: Image.Image, latents: torch.Tensor, tmp_path: Path
) -> None:
    found = pipe.invert(apple, "red apple", steps=4, solver="dpmpp2m-sde", seed=4)
    assert found.stats.method == "edit-friendly" and found.stats.nfe == [8.0]
    found.save(tmp_path / "noise.safetensors")
    again = Inversion.load(tmp_path / "noise.safetensors")
    for each in (found, again):
        assert gap(back(pipe, each), latents) < 1e-5


def test_the_ode_alone_leaves_an_error_that_is_stated(
    pipe: Pipeline, apple: Image.Image, latents: torch.Tensor
) -> None:
    found = pipe.invert(apple, "red apple", steps=4, solver="dpmpp2m", method="ode")
    assert found.stats.nfe == [8.0]
    assert gap(back(pipe, found), latents) == pytest.approx(found.stats.error[0], rel=1e-3)


def test_an_edit_to_the_same_prompt_returns_the_picture(
    pipe: Pipeline, apple: Image.Image, latents: torch.Tensor
) -> None:
    how: dict[str, Any] = {"steps": 4, "solver": "euler-ancestral", "output": "latent", "strength": 0.75}
    same = pipe.edit(apple, "red apple", to="red apple", guidance=1, **how)
    assert gap(same.latents, latents) < 1e-5
    assert same.stats.nfe == [3.0] and same.inversion is not None and same.inversion.nfe == [6.0]
    other = pipe.edit(apple, "red apple", to="green apple", **how)
    assert 0.05 < gap(other.latents, latents)
    call = pipe("green apple", image=apple, source_prompt="red apple", **how)
    assert torch.equal(call.latents, other.latents)
    both = pipe(["green apple", "red apple"], image=apple, source_prompt="red apple", **how)
    assert gap(both.latents[:1], other.latents) < 1e-5


def test_an_edit_keeps_the_picture_outside_a_mask(pipe: Pipeline) -> None:
    how: dict[str, Any] = {"steps": 4, "solver": "euler-ancestral", "output": "latent", "mask": mask()}
    out = pipe.edit(picture(), "", to="green apple", **how).latents
    kept = pipe("", image=picture(), strength=0, output="latent").latents
    inside = torch.from_numpy(np.asarray(mask()) >= 128)[::4, ::4]
    assert torch.equal(out[..., ~inside], kept[..., ~inside]) and not torch.equal(out, kept)


def test_flow_is_inverted(tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(flux(tmp_path / "dev", "dev"))
    found = pipe.invert(picture(), "a red apple", steps=3)
    assert found.stats.error[0] < 1e-3
    again = pipe("a red apple", noise=found.noise, solver=found.solver, guidance=1, output="latent").latents
    kept = pipe("", image=picture(), strength=0, output="latent").latents
    assert gap(again, kept) < 2e-3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"solver": "dpmpp2m"}, "DPMpp combines the outputs of many steps"),
        ({"method": "edit-friendly"}, "does not fit Euler, which draws no noise: use 'euler-ancestral'"),
        ({"solver": "ddpm", "method": "ode"}, "does not fit DDPM, which draws noise: use 'euler'"),
        ({"strength": 0}, "strength=0 inverts no step"),
        ({"tolerance": 2}, "tolerance=2 must lie between 0 and 1"),
        ({"iterations": 1}, "the inversion did not converge: .* Take more steps, less guidance"),
        ({"method": "ddim"}, "unknown inversion 'ddim'; known: exact, ode, edit-friendly"),
        ({"image": None}, "image=None is not a picture"),
    ],
)
def test_what_cannot_be_inverted(pipe: Pipeline, apple: Image.Image, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pipe.invert(**{"image": apple, "prompt": "a", "steps": 5, **arguments})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source_prompt": "a"}, "source_prompt= needs the picture that it describes: image="),
        ({"image": picture(), "inversion": "ode"}, "inversion='ode' needs a prompt of the picture: source_prompt="),
        ({"image": picture(), "source_prompt": "a", "denoising_end": 0.5}, "denoising_end= has no meaning with source"),
        ({"image": picture(), "source_prompt": ["a", "b"]}, "2 source prompts for 1 prompts"),
    ],
)
def test_calls_that_cannot_be_inverted(pipe: Pipeline, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pipe("a", steps=2, **arguments)


def test_command_line(
    pipe: Pipeline,
    apple: Image.Image,
    latents: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    apple.save("apple.png")
    model = ["--accelerate", "none"]
    short = ["--steps", "3", "--solver", "euler-ancestral"]
    assert main(["generate", "red apple", "--invert", "apple.png", *short, "--out", "a.safetensors"]) == 0
    assert "edit-friendly inversion, 6 evaluations" in capsys.readouterr().out
    again = ["--noise", "a.safetensors", "--guidance", "1", *model, "--out", "back.png"]
    assert main(["generate", "red apple", *again]) == 0
    with Image.open("back.png") as made:
        back = torch.from_numpy(np.asarray(made.convert("RGB")).copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(back, pipe.family.decode(latents)[0], rtol=0, atol=0.01)
    capsys.readouterr()
    assert "from noise of its own" in error_of(capsys, "repeat", "back.png")
    edit = ["--source-prompt", "red apple", *short, *model]
    assert main(["generate", "green apple", "--edit", "apple.png", *edit, "--out", "green.png"]) == 0
    recorded = json.loads(read_text("green.png")["sadaflow"])["options"]
    assert (recorded["image"], recorded["source_prompt"]) == ("apple.png", "red apple")
    assert main(["repeat", "green.png", "--out", "again.png"]) == 0
    assert Path("green.png").read_bytes() == Path("again.png").read_bytes()
    capsys.readouterr()
    for flags, words in (
        (["--noise", "a.safetensors", "--steps", "3"], "brings its own solver and steps: leave out --steps"),
        (["--noise", "apple.png"], "'apple.png' is not a file that --invert or Inversion.save wrote"),
        (["--noise", "none.safetensors"], "the noise file 'none.safetensors' does not exist"),
        (["--edit", "apple.png", "--image", "apple.png"], "--edit and --image each say where sampling starts"),
        (["--invert", "apple.png", "--out", "x.png"], "must end in .safetensors"),
        (["--invert", "apple.png", "--guidance", "3"], "--guidance has no effect on --invert"),
        (["--invert", "none.png"], "the picture 'none.png' cannot be read"),
        (["--source-prompt", "a"], "--source-prompt needs the picture"),
    ):
        assert words in error_of(capsys, "generate", "a", *flags)
    Path("prompts.jsonl").write_text(json.dumps({"prompt": "a", "image": "apple.png", "source_prompt": "b"}))
    assert read_prompt_file(Path("prompts.jsonl"))[0].source_prompt == "b"
    many = ["generate", "--prompts", "prompts.jsonl", "--out", "made", "--steps", "2", *model]
    assert main([*many, "--solver", "euler-ancestral"]) == 0 and Path("made/000000.png").is_file()
