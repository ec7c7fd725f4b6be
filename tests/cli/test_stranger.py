"""A stranger's solver, accelerator and family work by name in every command, and are restored from a picture."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sadaflow import Pipeline
from sadaflow.accelerators import ACCELERATORS, from_config, make_accelerator
from sadaflow.bench.run.folder import Folder
from sadaflow.cli import main
from sadaflow.families import FAMILIES
from sadaflow.files.metadata import Recipe
from sadaflow.files.png import read_text
from sadaflow.generation.outputs import recorded_request
from sadaflow.solvers import SOLVERS, Grid, RectifiedFlow, make_solver
from support.cli import error_of
from support.stranger import install, registries_restored, sketch_checkpoint

SIZE = ["--height", "32", "--width", "32", "--device", "cpu"]
SUITE = """
model = "{model}"
prompts = ["red apple"]
seeds = [0]
batch = 1
[[case]]
solvers = ["stranger-2m share=0.4", "./own.py:Extrapolated"]
steps = [8]
[[method]]
accelerator = "stranger.accelerator:EveryOther"
settings = [{{ first = 3 }}]
[[method]]
accelerator = "sub-grid"
settings = [{{ steps = 5 }}]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sketch_checkpoint(tmp_path_factory.mktemp("models") / "sketch")


@pytest.fixture(autouse=True)
def installed(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    with registries_restored(monkeypatch):
        yield


def test_names_are_listed_before_anything_is_imported() -> None:
    assert "stranger-2m" in SOLVERS and "stranger-other" in ACCELERATORS and "StrangerSketchPipeline" in FAMILIES
    assert list(SOLVERS)[:2] == ["euler", "ddim"] and "stranger-2m" in list(SOLVERS)
    assert len(SOLVERS) == len(list(SOLVERS))
    with pytest.raises(TypeError):
        SOLVERS["other"] = SOLVERS["euler"]  # type: ignore[index]


def test_a_picture_is_made_and_made_again_from_what_it_records(checkpoint: Path) -> None:
    how = ["--solver", "stranger-2m share=0.4", "--accelerate", "stranger-other first=3", "--steps", "8", "--seed", "5"]
    assert main(["generate", "red apple", "--model", str(checkpoint), *how, *SIZE, "--out", "a.png"]) == 0
    recipe = Recipe.from_json(read_text("a.png")["sadaflow"])
    assert recipe.solver == "stranger-2m share=0.4" and recipe.accelerator == "stranger-other first=3"
    assert recipe.guidance == 3.0 and recipe.nfe == 6
    assert recipe.solver_config is not None and recipe.solver_config["class"] == "stranger.solver:Extrapolated"
    pipe = Pipeline.from_pretrained(checkpoint)
    for request in (recorded_request(recipe), recorded_request(recipe, exact=True)):
        again = pipe(**request.arguments(), progress=False).images[0]
        with Image.open("a.png") as image:
            assert np.array_equal(np.asarray(image), np.asarray(again))
    assert main(["repeat", "a.png", "--out", "b.png", "--model", str(checkpoint), "--device", "cpu"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    exact = recorded_request(recipe, exact=True)
    assert exact.accelerator == make_accelerator("stranger-other", first=3)
    assert exact.solver.share == 0.4  # type: ignore[union-attr]


def test_compare_has_rows_for_it_and_for_the_baselines(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--solver", "stranger-2m", "--accelerate", "stranger-other first=3", "--steps", "8"]
    assert main(["compare", "red apple", "--model", str(checkpoint), *how, *SIZE, "--out", "c.png"]) == 0
    printed = capsys.readouterr().out
    assert "stranger-other first=3" in printed and "6 steps on the plain grid" in printed
    recipe = Recipe.from_json(read_text("c.png")["sadaflow"])
    assert recipe.accelerator_config is not None
    assert from_config(recipe.accelerator_config) == make_accelerator("stranger-other first=3")


def test_a_suite_measures_it_and_its_header_holds_the_settings(site: Path, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(site / "stranger/solver.py", "own.py")
    Path("mine.toml").write_text(SUITE.format(model=checkpoint))
    assert main(["bench", "mine.toml", "--out", "out", "--device", "cpu"]) == 0
    folder = Folder.read(tmp_path / "out")
    nfe = {line["setting"]: line["nfe"] for line in folder.samples.read()}
    label = "stranger.accelerator:EveryOther first=3"
    assert nfe == {"plain": 8, label: 6, "sub-grid steps=5": 5}
    assert {path.name for path in (tmp_path / "out").glob("fronts-*.png")} == {
        "fronts-stranger-2m-share=0.4.png", "fronts-.-own.py-Extrapolated.png",
    }  # fmt: skip
    held = folder.header["accelerators"][label]
    assert from_config(held) == make_accelerator("stranger-other", first=3)
    solver, other = folder.header["solvers"].values()
    assert other["class"] == "./own.py:Extrapolated"
    assert solver["fields"]["share"] == 0.4 and len(from_config(solver).nodes) == 8
    held["fields"]["first"] = 2
    (tmp_path / "out/header.json").write_text(json.dumps(folder.header))
    assert main(["bench", "mine.toml", "--out", "out", "--device", "cpu", "--resume"]) == 2


def test_it_is_checked_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "solver", "stranger-2m", "--law", "velocity", "--law", "ends at x0", "--schedule", "vp"]) == 0
    assert "pass  velocity" in capsys.readouterr().out
    assert main(["check", "solver", "stranger-2m share=0.1", "--law", "order", "--schedule", "flow"]) == 1
    assert "FAIL  order" in capsys.readouterr().out
    how = ["--law", "determinism", "--steps", "10", "--schedule", "flow"]
    assert main(["check", "accelerator", "stranger-other first=3", *how]) == 0
    assert "pass  determinism" in capsys.readouterr().out


def test_inspect_knows_its_family(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(checkpoint)]) == 0
    printed = capsys.readouterr().out
    assert "StrangerSketchPipeline" in printed and "--guidance 3\nloads        yes" in printed


def test_its_family_is_not_exported_as_another(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Sketch pipelines are not exported" in error_of(capsys, "export", str(checkpoint), "folder")


def test_a_broken_entry_is_refused_by_package_when_its_name_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    said = error_of(capsys, "generate", "x", "--solver", "broken")
    for words in ("solver 'broken'", "stranger-sampling 1.2", "broken = stranger.missing:Nothing", "ModuleNotFound"):
        assert words in said
    grid = Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, 5, dtype=torch.float64))
    assert make_solver("stranger-2m", grid).n_evals == 4


@pytest.mark.slow
def test_another_process_finds_the_package_by_itself(site: Path, checkpoint: Path) -> None:
    code = "import sys; from sadaflow.cli import main; sys.exit(main())"
    command = ["generate", "x", "--model", str(checkpoint), "--solver", "stranger-2m", "--steps", "2", *SIZE]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--accelerate", "none"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert Recipe.from_json(read_text("sadaflow.png")["sadaflow"]).solver == "stranger-2m"
