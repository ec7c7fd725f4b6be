"""Suites with prompts in the user's file: published files are read, and all settings run on small networks."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sadaflow import Pipeline
from sadaflow.bench import load_suite, parse_suite, run_bench, shipped_suites
from sadaflow.bench.suite.mixture import ANALYTIC
from sadaflow.bench.suite.model import FEWER_STEPS, SUB_GRID, Suite
from sadaflow.bench.suite.subjects import PipelineSubject
from sadaflow.families import base
from sadaflow.generation.prompt_file import read_prompt_file
from support.bench import lines
from support.checkpoints_flux import flux
from support.checkpoints_qwen_image import qwen_image
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image

FILES = {  # a few lines of each benchmark as it is published
    "drawbench.csv": 'Prompts,Category\n"A red colored car, parked.",Colors\nA black colored car.,Colors\n',
    "PartiPrompts.tsv": "Prompt\tCategory\tChallenge\tNote\n"
    'a sign that says "Deep Learning"\tAbstract\tWriting & Symbols\t\nbond\tAbstract\tBasic\tBiology-inspired\n',
    "evaluation_metadata.jsonl": '{"tag": "single_object", "include": [{"class": "bench", "count": 1}], '
    '"prompt": "a photo of a bench"}\n{"tag": "counting", "include": [{"class": "clock", "count": 2}], '
    '"exclude": [{"class": "clock", "count": 3}], "prompt": "a photo of two clocks"}\n',
}
SUITES = {
    "drawbench-flux": "drawbench.csv",
    "drawbench-qwen": "drawbench.csv",
    "drawbench-zimage": "drawbench.csv",
    "parti": "PartiPrompts.tsv",
    "geneval": "evaluation_metadata.jsonl",
}
PROMPTS = {
    "drawbench.csv": ["A red colored car, parked.", "A black colored car."],
    "PartiPrompts.tsv": ['a sign that says "Deep Learning"', "bond"],
    "evaluation_metadata.jsonl": ["a photo of a bench", "a photo of two clocks"],
}


@pytest.mark.parametrize("name", FILES)
def test_benchmarks_are_read_as_they_are_published(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    found = read_prompt_file(tmp_path / name)
    assert [entry.prompt for entry in found] == PROMPTS[name] and [entry.seed for entry in found] == [0, 1]


def test_other_headers_are_still_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("Prompt\tKind\na\tb\n")
    with pytest.raises(ValueError, match=r"x.tsv', line 1 is the header and names Prompt, Kind"):
        read_prompt_file(tmp_path / "x.tsv")
    (tmp_path / "y.tsv").write_text("prompt\tseed\na\t7\n")
    assert read_prompt_file(tmp_path / "y.tsv")[0].seed == 7


@pytest.mark.parametrize("name", SUITES)
def test_each_has_both_baselines_at_the_evaluations_of_uniform_skipping(name: str, tmp_path: Path) -> None:
    file = tmp_path / SUITES[name]
    file.write_text(FILES[file.name])
    suite = load_suite(name, file)
    assert suite.timing is not None and [sample.prompt for sample in suite.samples] == PROMPTS[file.name]
    assert f"sadaflow bench {name} --prompts {file.name} " in suite.text
    for case in suite.cases:
        subject, costs = ANALYTIC["mixture-flow"](), {}
        for setting in suite.settings(case):
            if setting.accelerator not in ("uniform", SUB_GRID, FEWER_STEPS):
                continue
            solver, accelerator = setting.arrange(case, subject)
            nfe = subject.run(["a"], [0], None, solver, accelerator).stats.nfe[0]
            costs.setdefault(setting.accelerator, set()).add(nfe)
        assert costs["uniform"] == costs[SUB_GRID] == costs[FEWER_STEPS] and len(costs["uniform"]) == 2


SMALL: dict[str, Callable[[Path], Path]] = {
    "black-forest-labs/FLUX.1-dev": lambda folder: flux(folder, "dev", num_layers=1, num_single_layers=1),
    "Qwen/Qwen-Image": qwen_image,
    "Tongyi-MAI/Z-Image": z_image,
    "stabilityai/stable-diffusion-3.5-medium": lambda folder: sd3(folder, "3.5 medium"),
}


def small(name: str, tmp_path: Path) -> Suite:
    """A shipped suite with one prompt, on a small network in place of its last model, at the least steps of it."""
    text = shipped_suites()[name].replace('metrics = ["lpips", "clip"]\n', "")  # their networks are not at hand
    model = tomllib.loads(text)["case"][-1]["model"]
    folder = SMALL[model](tmp_path / "small")
    vae = folder / "vae" / "config.json"
    fields = json.loads(vae.read_text())
    if "sample_size" in fields:  # the size of the pictures; `small_pictures` is for autoencoders without it
        vae.write_text(json.dumps({**fields, "sample_size": 16}))
    (tmp_path / "one.txt").write_text("a red apple\n")
    samples = load_suite(name, tmp_path / "one.txt").samples
    suite = parse_suite(text.replace(model, str(folder)), name, samples)
    case = min((case for case in suite.cases if case.model == str(folder)), key=lambda case: case.steps)
    return replace(suite, cases=(case,), timing=None)


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_DEFAULT_SIDE", 2)


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.usefixtures("small_pictures")
def test_all_settings_fit_small_networks(name: str, tmp_path: Path) -> None:
    suite = small(name, tmp_path)
    (case,) = suite.cases
    subject = PipelineSubject(Pipeline.from_pretrained(case.model))
    arranged = [setting.arrange(case, subject) for setting in suite.settings(case)]
    assert len(arranged) > 15


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITES)
@pytest.mark.usefixtures("small_pictures")
def test_all_settings_run_on_small_networks(name: str, tmp_path: Path, undrawn: None) -> None:
    suite = small(name, tmp_path)
    run_bench(suite, tmp_path / "out")
    settings = [setting.label for setting in suite.settings(suite.cases[0])]
    assert [line["setting"] for line in lines(tmp_path / "out")] == settings
