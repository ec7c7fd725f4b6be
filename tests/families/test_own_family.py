"""A stranger's family: the program of docs/your-family.md runs, and what lacks a member or fails is refused by name."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sadaflow import Pipeline
from sadaflow.families import FAMILIES, StableDiffusion, register_family
from sadaflow.pipeline.inspection import inspect
from support.pages import lines, program, run_program, stated_lines
from support.stranger import registries_restored, sketch_checkpoint


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with registries_restored(monkeypatch):
        yield


def test_the_program_of_the_page_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert stated_lines("your-family.md") == lines(program("your-family.md"))
    page = run_program("your-family.md", monkeypatch)
    printed = capsys.readouterr().out
    assert "MixedPipeline" in printed and "loads        yes" in printed and "every 2nd evaluation" in printed
    assert page.out.images[0].size == (32, 32) and page.out.stats.nfe[0] < 12
    pipe, call = Pipeline.from_pretrained(page.folder), {"steps": 3, "output": "latent"}
    both = pipe(["red apple", "pear"], seed=[0, 1], **call).latents
    assert both[:1].allclose(pipe("red apple", seed=0, **call).latents, atol=1e-5)
    with pytest.raises(ValueError, match="Mixed pipelines are not exported"):
        pipe.export(page.folder.parent / "export")
    with pytest.raises(ValueError, match="teacache"):
        pipe("red apple", accelerator="teacache", **call)
    shutil.rmtree(page.folder.parent)


class Bare:
    """Nothing of a family."""


class Half(StableDiffusion):
    """A family that fails while it loads."""

    @classmethod
    def prepare(cls, checkpoint: Any) -> Any:
        return cls.fails(checkpoint)

    @classmethod
    def fails(cls, checkpoint: Any) -> Any:
        raise KeyError("width")


class Late(Half):
    """A family that builds something else."""

    @classmethod
    def fails(cls, checkpoint: Any) -> Any:
        return lambda: Bare()


class NoFunction(Half):
    """A family that prepares nothing."""

    @classmethod
    def fails(cls, checkpoint: Any) -> Any:
        return None


def test_what_is_no_family_is_refused_when_it_is_registered() -> None:
    for wrong, said in (
        (Bare, "the class Bare is not a family, it lacks components, default_guidance, prepare"),
        (3, "is 3, which is not a class"), (lambda: 3, "which is not a class"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            register_family("WrongPipeline", wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'FluxPipeline' is built into sadaflow and cannot be that of Half"):
        register_family("FluxPipeline", Half)
    assert "WrongPipeline" not in FAMILIES


def test_a_family_that_fails_is_refused_by_name(tmp_path: Path) -> None:
    checkpoint = sketch_checkpoint(tmp_path / "sketch")
    with pytest.raises(ValueError, match="names the class StrangerSketchPipeline; supported: .*Flux"):
        Pipeline.from_pretrained(checkpoint)
    for family, said in (
        (Half, "the family Half of .*, which loads StrangerSketchPipeline, failed: KeyError: 'width'"),
        (Late, "built a Bare that lacks options, backbone"),
        (NoFunction, "must return a function from prepare, got None"),
    ):
        register_family("StrangerSketchPipeline", family, replace=True)
        with pytest.raises(ValueError, match=said):
            Pipeline.from_pretrained(checkpoint)
        assert str(inspect(checkpoint).refused).count(family.__name__)


def test_the_class_name_of_an_index_is_all_that_it_needs(tmp_path: Path) -> None:
    checkpoint = sketch_checkpoint(tmp_path / "sketch")
    register_family("StrangerSketchPipeline", StableDiffusion)
    index = json.loads((checkpoint / "model_index.json").read_text())
    assert index["_class_name"] == "StrangerSketchPipeline" and inspect(checkpoint).supported
    out = Pipeline.from_pretrained(checkpoint)("a", steps=2, height=16, width=16, output="latent")
    own = Pipeline.from_pretrained("tiny-sd")("a", steps=2, height=16, width=16, guidance=7.5, output="latent")
    assert out.latents.equal(own.latents)
