"""`sadaflow schedule`: a search from the command line, its file, and sampling with it."""

import json
from pathlib import Path

import pytest

from sadaflow import Pipeline
from sadaflow.accelerators import Schedule
from sadaflow.accelerators.steps.searched import read_searched
from sadaflow.cli import main
from sadaflow.pipeline.schedule_search import SearchSettings, search_pipeline
from sadaflow.sampling.schedule_search import SearchEffort

SMALL = ["--solver", "euler", "--steps", "8", "--budget", "4", "--samples", "2"]


def test_a_search_is_stored_goes_on_and_is_sampled_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    assert main(["schedule", "tiny-flux", *SMALL, "--tries", "2", "--out", str(path)]) == 0
    first = read_searched(path)
    assert first.mask.count("1") == 4 and first.predictor == "kriging" and first.correct and len(first.tried) == 2
    assert first.mask in capsys.readouterr().out
    assert main(["schedule", "tiny-flux", *SMALL, "--tries", "4", "--out", str(path)]) == 0
    more = read_searched(path)
    assert list(more.tried)[:2] == list(first.tried) and len(more.tried) == 4 and more.loss <= first.loss
    pipe = Pipeline.from_pretrained("tiny-flux")
    assert more.weights == pipe.calibrations.weights
    out = pipe("sun", solver="euler", steps=8, accelerator=Schedule(str(path)), output="latent")
    assert out.stats.nfe == [4]
    assert ["1" if mode == "full" else "0" for mode in out.stats.modes[0]] == list(more.mask)
    assert main(["schedule", "tiny-flux", *SMALL, "--no-correct", "--out", str(path)]) != 0
    assert "is one of another search: correct True, not False" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--solver", "heun"], "returns to earlier times"),
        (["--budget", "9"], "9 of 8 steps is not possible: it takes 3 to 8"),
        (["--budget", "1"], "1 of 8 steps is not possible"),
        (["--predictor", "magic"], "Schedule.predictor must be held"),
        (["--tries", "0"], "tries of a search must be at least 1"),
        (["--prompts", "none.txt"], "none.txt"),
        (["--out", "found.txt"], "must end in .json"),
    ],
)
def test_the_command_refuses_before_it_measures(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schedule", "tiny-flux", *SMALL, "--out", str(tmp_path / "a.json"), *flags]) != 0
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_of_something_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"calibrations": []}))
    pipe, settings = Pipeline.from_pretrained("tiny-flux"), SearchSettings(4, effort=SearchEffort(samples=1, tries=1))
    with pytest.raises(ValueError, match="has format None, this version reads 1"):
        search_pipeline(pipe, settings, path, solver="euler", steps=8)
    assert json.loads(path.read_text()) == {"calibrations": []}
    with pytest.raises(ValueError, match="schedule has no argument seed="):
        search_pipeline(pipe, settings, tmp_path / "new.json", seed=1)
