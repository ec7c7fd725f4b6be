"""The checkpoints of the package: loaded by name, with the defaults that their files recommend."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

import sadaflow.loading.embedded
from sadaflow import Pipeline
from sadaflow.loading.embedded import EMBEDDED, embedded, embedded_names
from sadaflow.loading.sampling_defaults import Recommended
from sadaflow.pipeline.inspection import inspect
from sadaflow.training.export.stable_diffusion import MODEL_INDEX
from support.checkpoints import controlnet


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-sd and a ControlNet for it, as the package's folder of checkpoints."""
    root = tmp_path_factory.mktemp("checkpoints")
    shutil.copytree(EMBEDDED / "tiny-sd", root / "tiny-sd")
    controlnet(root / "tiny-net", root / "tiny-sd", conditioning_embedding_out_channels=(8, 8, 16))
    return root


def test_names_resolve_for_pipelines_controlnets_and_inspection(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sadaflow.loading.embedded, "EMBEDDED", shelf)
    pipe = Pipeline.from_pretrained("tiny-sd", controlnet="tiny-net")
    assert (pipe.name, pipe.controlnets) == ("tiny-sd", 1)
    assert Pipeline.from_pretrained(controlnet=["tiny-net", shelf / "tiny-net"]).controlnets == 2
    assert inspect("tiny-net").kind == "ControlNetModel" and inspect("tiny-net").place == "tiny-net"
    assert inspect() == inspect("tiny-sd")


@pytest.mark.parametrize("arguments", [{"model": "tiny-sdd"}, {"controlnet": "tiny-sdd"}])
def test_a_misspelt_name_gets_the_list(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'tiny-sdd' is neither a folder.*embedded checkpoint .*tiny-sd"):
        Pipeline.from_pretrained(**arguments)
    with pytest.raises(ValueError, match="tiny-sdd"):
        inspect("tiny-sdd")


def test_other_places_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tiny-sd" in embedded_names()
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "tiny-sd"):
        Path(name).mkdir()
    assert [embedded(name) for name in ("owner/name", "mine", "./tiny-sd")] == ["owner/name", "mine", "./tiny-sd"]
    assert embedded("tiny-sd") == str(EMBEDDED / "tiny-sd")


def test_pipeline_and_inspection_agree_on_what_the_files_recommend() -> None:
    pipe, found = Pipeline.from_pretrained(), inspect()
    assert Recommended(found.guidance, found.steps, found.solver) == pipe.recommended == Recommended(5.0, 50, "dpmpp2m")
    assert pipe.default_guidance == 5.0
    call: dict[str, Any] = {"steps": 2, "output": "latent"}
    assert pipe("red apple", **call).latents.equal(pipe("red apple", guidance=5.0, **call).latents)


def test_a_solver_brings_its_own_grid() -> None:
    pipe = Pipeline.from_pretrained()
    with pytest.raises(ValueError, match="grid='karras' with a solver"):
        pipe("red apple", solver=pipe.solver("euler", 2), grid="karras")


def test_the_embedded_index_is_the_one_that_training_writes() -> None:
    assert json.loads((EMBEDDED / "tiny-sd/model_index.json").read_text("utf-8")) == json.loads(json.dumps(MODEL_INDEX))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([5], "expected an object of guidance, steps, solver"),
        ({"guidence": 5}, "guidence"),
        ({"guidance": "5"}, "guidance is '5'"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": True}, "steps is True"),
        ({"solver": "eulr"}, "eulr"),
    ],
)
def test_recommendations_that_cannot_be_are_refused(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recommended.read({"_sadaflow": value}, "model_index.json")


def test_diffusers_loads_the_folder_without_a_word_about_the_field(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    try:
        reference = StableDiffusionPipeline.from_pretrained(EMBEDDED / "tiny-sd")
    finally:
        logger.removeHandler(caplog.handler)
    assert reference.unet.config.sample_size == 16 and "_sadaflow" not in reference.config
    assert "sadaflow'" not in caplog.text
