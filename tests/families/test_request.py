"""One dataclass of arguments: all ways of asking for a picture read and write its fields."""

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sadaflow import SADA, Pipeline
from sadaflow.bench.suite.model import Case, Sample
from sadaflow.cli import main
from sadaflow.cli.app import load_command
from sadaflow.cli.generate_options import GenerateOptions
from sadaflow.cli.options import Options
from sadaflow.compare import compare
from sadaflow.families import FAMILIES
from sadaflow.families.argument import arguments
from sadaflow.families.options import FluxOptions, SamplingOptions, XLOptions
from sadaflow.families.request import ARGUMENTS, PER_LINE, PER_SAMPLE, Request, select_arguments
from sadaflow.families.text_options import TextOptions
from sadaflow.files.metadata import Recipe
from sadaflow.files.png import read_text
from sadaflow.generation.outputs import recorded_request
from sadaflow.generation.prompt_file import Prompt
from sadaflow.generation.prompt_forms import FIELDS
from sadaflow.pipeline.diffusers_names import UnknownArgument

NAMES = set(ARGUMENTS)
HOW_IT_RUNS = {"output", "progress", "trace", "parallel", "observer"}
LOADING = {
    "model", "out", "overwrite", "controlnet", "lora", "lora_scale", "scheduler", "revision", "variant", "tokenizer",
    "vae", "base", "embedding", "embedding_token",
    "prediction", "device", "dtype", "offload", "tile", "quantize", "config", "dry_run",
    "debug",
}  # fmt: skip
EMBEDS = {"prompt_embeds", "negative_embeds", "pooled_embeds", "negative_pooled_embeds"}
WITHOUT_FLAG = {"noise", "denoising_start", "denoising_end", *EMBEDS}
AS_WRITTEN_BEFORE = (
    '{"prompt": "fox", "model": "tiny-sd", "steps": 8, "seed": 5, "width": 32, "height": 16, "negative_prompt": null, '
    '"solver": "euler", "grid": null, "guidance": 3.0, "accelerator": null, "nfe": 8.0, "modes": ["full"], '
    '"options": {"control": ["edges.png"], "control_scale": [0.5], "true_guidance": 2.0, "crop": [0, 64], '
    '"lora": ["a.safetensors"], "dtype": "float16"}, "versions": {"sadaflow": "0.1.0"}}'
)


def test_every_argument_is_a_parameter_of_a_call_with_the_same_default() -> None:
    parameters = dict(inspect.signature(Pipeline.__call__).parameters)
    del parameters["self"]
    assert parameters.keys() == NAMES | HOW_IT_RUNS
    defaults = {item.name: item.default for item in fields(Request)}
    free = NAMES - {"prompt", "steps"}  # a call needs prompts; its steps are 50, not the checkpoint's
    assert {name: parameters[name].default for name in free} == {name: defaults[name] for name in free}
    assert parameters["steps"].default == 50


def test_every_argument_is_described_in_its_class_and_in_the_call() -> None:
    for kind in Request.__mro__[1:-1]:
        for name in kind.__annotations__:
            assert f"    {name}: " in str(kind.__doc__), name
    assert all(f"{name}" in str(Pipeline.__call__.__doc__) for name in NAMES)


@pytest.mark.parametrize(
    ("command", "kind"), [("generate", GenerateOptions), ("compare", Options), ("explore", Options)]
)
def test_every_argument_is_a_flag(command: str, kind: type[Options]) -> None:
    found = {item.name for item in load_command(command).params}
    own = {item.name for item in fields(kind)} - {"request"}
    flags = {declared.flag or name for name, declared in ARGUMENTS.items() if name not in WITHOUT_FLAG}
    assert found - {"help"} == flags | own
    assert {item.name for item in fields(Options)} == LOADING | {"request"}


def test_a_line_of_a_prompt_file_may_set_what_each_sample_has_for_itself() -> None:
    assert PER_SAMPLE == ("prompt", "negative_prompt", "seed", "image", "mask", "source_prompt", "blend_prompt")
    assert PER_LINE == ("guidance", "strength")
    assert set(FIELDS) == {*PER_SAMPLE, *PER_LINE, "id"}
    assert {item.name for item in fields(Prompt)} == {*PER_SAMPLE, *PER_LINE, "index", "name"}
    assert {item.name for item in fields(Sample)} <= set(PER_SAMPLE)
    assert {item.name for item in fields(Case)} <= NAMES | {"model"}


CHANGED: dict[str, Any] = {
    "num_frames": 5,
    "late_guidance": 3.0,
    "prompt": "fox", "negative_prompt": "blur", "steps": 7, "solver": "euler", "grid": "karras",
    "accelerator": "auto", "speedup": 2.0, "guidance": 2.5, "seed": 9, "height": 64, "width": 128, "seconds": 1.5,
    "control_scale": 0.5, "control_start": 0.25, "control_end": 0.75, "true_guidance": 2.0, "max_sequence_length": 77,
    "control_mode": 2,
    "original_size": (512, 768), "crop": (1, 2), "target_size": (3, 4), "negative_original_size": (5, 6),
    "negative_crop": (7, 8), "negative_target_size": (9, 10), "aesthetic_score": 7.0, "negative_aesthetic_score": 1.5,
    "class_labels": 3, "long_prompts": "chunks", "prompt_weights": True, "blend_prompt": "cat", "blend": (0.2, 0.8),
    "guidance_rescale": 0.5, "guidance_interval": (0.3, 5.0), "audio": "sound.wav",
}  # fmt: skip


PICTURE: dict[str, Any] = {
    "image": "a.png", "mask": "b.png", "strength": 0.5, "mask_blur": 2.0, "padding_mask_crop": 8, "paste": True,
    "posterior": "sample", "image_guidance": 2.0, "denoising_end": 0.9,
}  # fmt: skip
OTHERWISE: dict[str, dict[str, Any]] = {
    "start_step": {"start_step": 3},
    "denoising_start": {"denoising_start": 0.5},
    "source_prompt": {"source_prompt": "dog"},
    "inversion": {"source_prompt": "dog", "inversion": "ode"},
}


def test_metadata_records_every_argument() -> None:
    named = {*CHANGED, *PICTURE, *OTHERWISE}
    assert named == NAMES - {"noise", "control", "words", *EMBEDS}, "give a value for the new argument"
    for instead in ({}, *OTHERWISE.values()):
        request = Request("fox", steps=50, image="a.png", height=32, width=32, **instead)
        recipe = Recipe.of(request.given(), {}, model="m", prompt="fox", steps=50, seed=0)
        assert recorded_request(recipe) == request
    given = {**CHANGED, **PICTURE}
    request = Request(**given)
    assert request.given().keys() == given.keys()
    recipe = Recipe.of(request.given(), {"lora": ["a"]}, model="m", prompt="fox")
    assert recorded_request(Recipe.from_json(recipe.to_json())) == request
    assert recipe.options["lora"] == ["a"]


def test_metadata_of_older_files_is_read() -> None:
    recipe = Recipe.from_json(AS_WRITTEN_BEFORE)
    assert json.loads(recipe.to_json()) == json.loads(AS_WRITTEN_BEFORE)
    request = recorded_request(recipe)
    assert request == Request(
        "fox", steps=8, seed=5, width=32, height=16, solver="euler", guidance=3.0, control_scale=(0.5,),
        true_guidance=2.0, crop=(0, 64),
    )  # fmt: skip
    for damaged in ("", "[]", "{}", '{"prompt": "fox", "other": 1}', '{"modes": 3}'):
        with pytest.raises(ValueError, match="not the record of a run"):
            Recipe.from_json(damaged)


def test_a_picture_is_made_again_from_its_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    size = ["--steps", "3", "--height", "32", "--width", "64", "--negative", "blur", "--guidance", "3"]
    assert main(["generate", "fox", "owl", "--seed", "7", "--accelerate", "none", *size]) == 0
    file = Path("sadaflow-2.png")
    request = recorded_request(Recipe.from_json(read_text(file)["sadaflow"]))
    again = Pipeline.from_pretrained()(**request.arguments(), progress=False)
    with Image.open(file) as image:
        assert np.array_equal(np.asarray(image), np.asarray(again.images[0]))


@given(count=st.integers(1, 5), data=st.data())
def test_a_request_of_one_sample_holds_what_is_its_own(count: int, data: st.DataObject) -> None:
    texts = st.text(st.characters(codec="utf-8"), max_size=5)
    prompts = data.draw(st.lists(texts, min_size=count, max_size=count))
    negatives = data.draw(st.none() | texts | st.lists(st.none() | texts, min_size=count, max_size=count))
    seeds = data.draw(st.integers(0, 99) | st.lists(st.integers(0, 99), min_size=count, max_size=count))
    request = Request(prompts, negative_prompt=negatives, seed=seeds, crop=torch.tensor([1, 2]))
    for index in range(count):
        one = request.sample(index)
        assert one.prompts == (prompts[index],) and one.crop == (1, 2)
        assert one.negatives == [negatives[index] if isinstance(negatives, list) else negatives]
        assert one.seeds == [seeds[index] if isinstance(seeds, list) else seeds]


def test_what_is_filled_in_was_none() -> None:
    request = Request("fox", guidance=2, steps=None).filled(guidance=7.5, steps=20, solver=None)
    assert (request.guidance, request.steps, request.solver) == (2.0, 20, None)
    with pytest.raises(ValueError, match="guidance=None"):
        _ = Request("fox").guided
    with pytest.raises(ValueError, match="height=None"):
        _ = Request("fox").size


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prompt": 5}, "prompt=5 is not text"),
        ({"prompt": ["a", 5]}, r"prompt\[1\]=5"),
        ({"prompt": ["a", "b"], "seed": [1, 2, 3]}, "3 seeds for 2 prompts"),
        ({"prompt": ["a"], "negative_prompt": ["b", "c"]}, "2 negative prompts for 1 prompts"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"solver": "eulr"}, "unknown solver 'eulr'"),
        ({"grid": "kerras"}, r"unknown grid 'kerras' \(did you mean 'karras'\?\); known: linspace"),
        ({"accelerator": "warp"}, "unknown accelerator 'warp'"),
        ({"accelerator": SADA}, "the class SADA"),
        ({"crop": (1,)}, r"crop must be \(top, left\)"),
        ({"target_size": (1, -1)}, r"target_size must be \(height, width\)"),
        ({"control_scale": [1, "x"]}, "control_scale='x'"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Request(**wrong)
    with pytest.raises(ValueError, match=words):
        Pipeline.from_pretrained()(**{"prompt": "fox", **wrong})


def test_families_honour_arguments_that_exist() -> None:
    special = arguments(FluxOptions).keys() | arguments(TextOptions).keys() | arguments(XLOptions).keys()
    assert special.isdisjoint(arguments(SamplingOptions))
    of_clip_alone = {"long_prompts", "prompt_weights"}
    honoured = arguments(FluxOptions).keys() | arguments(TextOptions).keys() - of_clip_alone
    assert {name for name in FAMILIES["FluxPipeline"].options} == honoured  # type: ignore[attr-defined]


def test_comparing_shares_the_request() -> None:
    settings = inspect.signature(compare).parameters["settings"].annotation
    assert settings == (Request | None) or settings == "Request | None"
    assert select_arguments({"steps": 3, "self": None, "trace": True}) == {"steps": 3}


def test_no_further_argument_is_accepted() -> None:
    with pytest.raises(UnknownArgument):
        Pipeline.from_pretrained()("fox", step=3)  # type: ignore[call-arg]
