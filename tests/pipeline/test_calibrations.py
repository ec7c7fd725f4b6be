"""Calibrations of checkpoints: where they are found, for which weights they hold, and the command that makes them."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sadaflow import Auto, Pipeline
from sadaflow.accelerators.auto.calibration import Calibration
from sadaflow.cli import main
from sadaflow.families import Request
from sadaflow.loading.embedded import EMBEDDED
from sadaflow.pipeline.calibrations import NAME, cache_file, read_calibrations, write_calibrations


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SADAFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """tiny-flux, with the components that it shares, in a folder of its own, without calibrations."""
    assert main(["export", "tiny-flux", str(tmp_path / "flux")]) == 0
    (tmp_path / "flux" / NAME).unlink(missing_ok=True)
    return tmp_path / "flux"


def own(pipe: Pipeline, **changed: object) -> Calibration:
    """A calibration of 12 steps of Euler with numbers that were not measured."""
    shipped = read_calibrations(EMBEDDED / "tiny-flux" / NAME)
    found = next(entry for entry in shipped if len(entry.log_snr) == 12)
    return replace(found, **{"weights": pipe.calibrations.weights, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["tiny-sd", "tiny-flux"])
def test_embedded_checkpoints_are_calibrated(model: str) -> None:
    pipe = Pipeline.from_pretrained(model)
    guidance = pipe.default_guidance if model == "tiny-flux" else 5.0
    for steps in (50, 28, 20, 12):
        solver = pipe.solver("euler", steps)
        fitting = [found for found in pipe.calibrations.near(guidance, adapted=False) if found.misfit(solver) is None]
        assert fitting, steps
        for speedup in (1.5,) if steps < 20 else (1.5, 2.0):
            assert fitting[0].covers(steps / speedup, Auto().shape_settings())


def test_a_speed_up_is_kept_on_other_prompts() -> None:
    """Prompts that are harder than the calibration's cost up to 9 % more (docs/fronts.md)."""
    pipe = Pipeline.from_pretrained("tiny-flux")
    out = pipe(["red apple", "pizza", "rocket", "sun"] * 2, seed=list(range(8)), solver="euler", steps=20, speedup=1.6)
    assert np.mean(out.stats.nfe) == pytest.approx(12.5, rel=0.1)


def test_calibrations_are_found_beside_the_checkpoint_and_in_the_cache(folder: Path, cache: Path) -> None:
    pipe = Pipeline.from_pretrained(folder)
    assert pipe.calibrations.held == ()
    beside, cached = own(pipe), own(pipe, guidance=9.0)
    write_calibrations(folder / NAME, [beside])
    write_calibrations(cache_file(pipe.calibrations.weights), [cached])
    assert cache_file(pipe.calibrations.weights).is_relative_to(cache)
    assert Pipeline.from_pretrained(folder).calibrations.held == (cached, beside)
    again = replace(beside, samples=99)
    write_calibrations(folder / NAME, [again])  # replaces the one of the same solver, steps and guidance
    assert read_calibrations(folder / NAME) == [again]


def test_calibrations_of_other_weights_are_named_and_not_used(folder: Path) -> None:
    pipe = Pipeline.from_pretrained(folder)
    write_calibrations(folder / NAME, [own(pipe), own(pipe, weights="0" * 64)])
    with pytest.warns(UserWarning, match=f"{NAME} holds calibrations of other weights"):
        assert Pipeline.from_pretrained(folder).calibrations.held == (own(pipe),)
    other = Pipeline.from_pretrained("tiny-sd")
    with pytest.raises(ValueError, match=r"one of weights with the digest .*, those of tiny-sd are"):
        other("sun", steps=12, solver="euler", accelerator=Auto(calibration=own(pipe)))


def test_a_damaged_file_is_named_and_does_not_stop_loading(folder: Path) -> None:
    (folder / NAME).write_text('{"calibrations": [{"format": 7}]}', "utf-8")
    with pytest.warns(UserWarning, match=rf"{NAME}.*format 7, this version reads 2"):
        Pipeline.from_pretrained(folder)
    (folder / NAME).write_text("{", "utf-8")
    with pytest.warns(UserWarning, match=f"{NAME} is not valid JSON"):
        Pipeline.from_pretrained(folder)
    with pytest.raises(ValueError, match="is not a file of calibrations"):
        (folder / NAME).write_text("{}", "utf-8")
        write_calibrations(folder / NAME, [])


def test_the_digest_changes_with_the_weights_and_not_with_the_dtype(folder: Path, tmp_path: Path) -> None:
    first = Pipeline.from_pretrained(folder).calibrations.weights
    assert first == Pipeline.from_pretrained(folder, dtype="bfloat16").calibrations.weights
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    path = other / "transformer" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = min(header.keys() - {"__metadata__"})  # the first is always among those of which a row is read
    start = header[name]["data_offsets"][0] + 8 + length
    content[start : start + 2] = b"\x00\x3c"
    path.write_bytes(bytes(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Pipeline.from_pretrained(other).calibrations.weights != first


def test_the_command_measures_and_the_next_call_uses_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = folder.parent / "prompts.txt"
    prompts.write_text("key\nfish\n", "utf-8")
    flags = ["--solver", "euler", "--steps", "10", "--samples", "2", "--prompts", str(prompts)]
    assert main(["calibrate", str(folder), *flags]) == 0
    assert f"{folder / NAME}: Euler(), 10 steps, guidance 3.5" in capsys.readouterr().out
    pipe = Pipeline.from_pretrained(folder)
    (found,) = pipe.calibrations.held
    assert found.misfit(pipe.solver("euler", 10)) is None and found.samples == 2
    assert pipe.denoiser(pipe.solver("euler", 10), Request(prompt=["sun"], steps=10)).calibrations == [found]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--solver", "heun"], "returns to earlier times"),
        (["--steps", "4"], "at least 5 steps, got 4"),
        (["--samples", "0"], "samples of a calibration must be at least 1"),
        (["--prompts", "none.txt"], "none.txt"),
    ],
)
def test_the_command_refuses_before_it_measures(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "tiny-flux", *flags]) != 0
    assert message in capsys.readouterr().err


def test_arguments_of_calibrate_are_checked() -> None:
    pipe = Pipeline.from_pretrained("tiny-flux")
    with pytest.raises(ValueError, match="calibrate has no argument seed=; it has solver, steps"):
        pipe.calibrate(seed=1)
    with pytest.raises(ValueError, match="list of one or more prompts"):
        pipe.calibrate("one")
    with pytest.raises(ValueError, match=r"speedup=2 is an argument of the accelerator 'auto', not of 'sada'"):
        pipe("sun", speedup=2, accelerator="sada")
    with pytest.raises(ValueError, match="speedup must be at least 1, got 0.5"):
        pipe("sun", speedup=0.5)
