"""Calibration of a network whose guided predictions keep their length: measured, stored, and found by a call."""

from pathlib import Path

import pytest

from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.guidance import APG, CFG, KeepLength
from sadaflow.pipeline.calibrations import guidance_of
from support.checkpoints_qwen_image import qwen_image

SIZE = ["--height", "32", "--width", "32"]


def test_the_scale_is_that_of_the_call() -> None:
    both: tuple[dict[str, object], object] = ({}, {})
    assert guidance_of(*both, KeepLength(CFG(4.0)), None) == guidance_of(*both, 4.0, None) == 4.0
    assert guidance_of(*both, KeepLength(APG(4.0)), None) is None
    assert guidance_of(*both, KeepLength(CFG((4.0, 2.0))), None) is None


def test_a_calibration_is_measured_and_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(qwen_image(tmp_path / "made"))
    how = ["calibrate", folder, "--steps", "8", "--samples", "2", *SIZE]
    assert main(how) == 0
    assert "8 steps, guidance 4" in capsys.readouterr().out
    pipe = Pipeline.from_pretrained(folder)
    (held,) = pipe.calibrations.held
    assert held.guidance == pytest.approx(4.0)
    call = {"negative_prompt": " ", "height": 32, "width": 32, "steps": 8, "solver": "euler", "output": "latent"}
    out = pipe("a red apple", accelerator="auto speedup=1.5", **call)
    assert out.stats.nfe[0] < 8
    assert main([*how, "--method", "teacache"]) == 0
    (setting,) = (line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  teacache"))
    assert pipe("a red apple", accelerator=setting, **call).stats.nfe[0] <= 8
