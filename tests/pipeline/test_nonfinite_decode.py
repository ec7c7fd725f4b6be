"""A decoder with an output that is not finite stops the call with an error that names it, for every kind of output."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.compare import Request, compare
from sadaflow.families.base import decode_images
from sadaflow.sampling.finite_check import require_finite_output
from support.checkpoints import musicldm, stable_diffusion


def overflowing(folder: Path, part: str, layer: str) -> Path:
    """Scale weights of `layer` to be finite in float16 (at most 6e4), while its output is not."""
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    names = [name for name in weights if name.startswith(layer)]
    assert names
    for name in names:
        weights[name] = weights[name] / weights[name].abs().max().clamp(min=1e-6) * 6e4
    save_file(weights, file, metadata={"format": "pt"})
    config = folder / part / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "force_upcast": False}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return overflowing(stable_diffusion(tmp_path_factory.mktemp("sd") / "sd", "sd15"), "vae", "decoder.conv_out")


@pytest.mark.parametrize("output", ["pil", "tensor"])
def test_float16_overflow_is_an_error_that_names_decoder_and_remedy(folder: Path, output: str) -> None:
    pipe = Pipeline.from_pretrained(folder, dtype="float16")
    with pytest.raises(FloatingPointError, match=r"vae.*samples \[0, 1\] in float16.*bfloat16"):
        pipe(["fox", "owl"], steps=1, output=output)
    assert pipe("fox", steps=1, output="latent").images is None  # nothing is decoded
    assert bool(torch.isfinite(Pipeline.from_pretrained(folder)("fox", steps=1, output="tensor").images).all())


def test_infinity_is_seen_before_it_is_clamped_to_white(folder: Path) -> None:
    vae = Pipeline.from_pretrained(folder).vae
    with torch.no_grad():
        vae.decoder.conv_out.bias.fill_(3.4e38)  # type: ignore[operator, union-attr]
        vae.decoder.conv_out.weight.fill_(3e38)  # type: ignore[operator, union-attr]
        with pytest.raises(FloatingPointError, match="check the weights"):
            decode_images(vae, torch.full((1, 4, 4, 4), 5.0))


@pytest.mark.parametrize("command", ["generate", "prompts", "compare"])
def test_commands_write_nothing_and_fail(
    folder: Path, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["--model", str(folder), "--steps", "6", "--dtype", "float16", "--height", "16", "--width", "16"]
    if command == "prompts":
        Path("p.txt").write_text("fox\nowl\n")
        assert main(["generate", "--prompts", "p.txt", "--out", "out", *common]) == 1
    else:
        accelerate = ["--accelerate", "uniform" if command == "compare" else "none"]
        assert main([command, "fox", *accelerate, *common]) == 1
    assert "the output of the vae is not finite" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))


def test_a_comparison_stops(folder: Path) -> None:
    pipe = Pipeline.from_pretrained(folder, dtype="float16")
    with pytest.raises(FloatingPointError, match="vae"):
        compare(pipe, ["fox"], Request(steps=6, height=16, width=16), "uniform")


def test_the_vocoder_is_checked_as_the_decoder_is(tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(musicldm(tmp_path / "music"))
    vocoder: Any = pipe.family.networks["vocoder"]
    with torch.no_grad():
        vocoder.conv_post.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"vocoder.*samples \[0\].*checkpoint's vocoder"):
        pipe("piano", steps=1)
    assert pipe("piano", steps=1, output="tensor").audio is None


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_only_the_samples_that_are_not_finite_are_named(value: float) -> None:
    output = torch.zeros(3, 3, 2, 2)
    require_finite_output("vae", torch.float32, output)
    output[1, 2, 0, 1] = value
    with pytest.raises(FloatingPointError, match=r"samples \[1\] in float32"):
        require_finite_output("vae", torch.float32, output)
