"""Suite files: the shipped ones run, bad ones are rejected with line and remedy, and one runs on a checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from sadaflow import Pipeline
from sadaflow.bench import load_suite, parse_suite, run_bench, shipped_suites
from sadaflow.bench.suite.mixture import ANALYTIC
from sadaflow.bench.suite.model import FEWER_STEPS, PLAIN
from sadaflow.bench.suite.subjects import PipelineSubject, Subjects
from sadaflow.cli import main
from sadaflow.solvers import UniPC
from sadaflow.training.data.captions import CARD_PROMPTS
from support.bench import MIXTURE, change, lines, table_of

PROMPTED = ("drawbench-flux", "drawbench-qwen", "drawbench-zimage", "geneval", "parti", "vbench-wan")
# by files of their own


def fewer(solver: str) -> str:
    """The suite `MIXTURE` with a solver for the run of fewer steps."""
    row = "steps = [9]\nsettings = [{steps = 4"
    return change(row + "}]", f"{row}, solver = {solver}}}]")


def test_shipped_suites_are_sound() -> None:
    prompted = [name for name in shipped_suites() if name not in PROMPTED and not name.startswith("paper-")]
    suites = {name: load_suite(name) for name in prompted}
    assert set(suites) == {
        "fronts-mixture", "fronts-tiny-dit", "fronts-tiny-flux", "fronts-tiny-sd", "quick", "quick-video",
        "tune-tiny-flux", "tune-tiny-sd",
    }  # fmt: skip
    for name in ("tiny-sd", "tiny-flux"):
        shown, tuned = suites[f"fronts-{name}"], suites[f"tune-{name}"]
        assert {sample.prompt for sample in shown.samples} == set(CARD_PROMPTS)
        assert len(shown.samples) == 80 and len(tuned.samples) == 64
        for what in ("prompt", "seed"):
            assert not {getattr(one, what) for one in shown.samples} & {getattr(one, what) for one in tuned.samples}
        assert {case.model for case in (*shown.cases, *tuned.cases)} == {name}


@pytest.mark.parametrize("name", ["fronts-tiny-sd", "fronts-tiny-flux", "fronts-mixture"])
def test_every_setting_of_a_shipped_suite_can_run(name: str) -> None:
    suite, subjects = load_suite(name), Subjects(torch.device("cpu"), torch.float32)
    for case in suite.cases:
        subject = subjects(case.model)
        for setting in suite.settings(case):
            solver, accelerator = setting.arrange(case, subject)
            assert (solver.n_evals < case.steps) == (setting != PLAIN and accelerator is None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = ", ["suite m is not valid TOML"]),
        (change("seeds = [3, 5, 8]", ""), ["suite m: seeds is missing", "whole numbers"]),
        (change("seeds = [3, 5, 8]", "seeds = []"), ["suite m: seeds must be", "not empty"]),
        (change("seeds = [3, 5, 8]", "seeds = [3, 3]"), ["suite m: seeds holds an entry twice"]),
        (change("seeds = [3, 5, 8]", "seeds = [-1]"), ["suite m: seeds must be", "[-1]"]),
        (change("batch = 2", "batch = true"), ["suite m: batch must be a whole number", "True"]),
        (change("batch = 2", "bach = 2"), ["suite m: unknown key 'bach'", "batch"]),
        (change("steps = [9, 8]", "steps = [9]\nguidance = 5.0"), ["case 2", "guidance", "mixture-flow"]),
        (change('solvers = ["euler", "dpmpp2m"]', 'solvers = ["eulr"]'), ["suite m: case 1", "'eulr'", "dpmpp2m"]),
        (change('"dpmpp2m"]', '"euler-ancestral"]'), ["case 1", "'euler-ancestral' draws noise"]),
        (change('"dpmpp2m"]', '"euler"]'), ["a case occurs twice"]),
        (change('model = "mixture-vp"', ""), ["case 1", "a model is missing", "mixture-vp"]),
        (change('model = "mixture-flow"', 'model = "tiny-sd"'), ["mixture-vp", "without checkpoints"]),
        (change('accelerator = "uniform"', 'accelerator = "unifrm"'), ["method 1", "'unifrm'", "uniform", "sub-grid"]),
        (change("every = 3", "evry = 3"), ["method 1: setting 2", "Uniform has no setting 'evry'", "correct"]),
        (change("every = 3", "every = 0"), ["method 1: setting 2", "Uniform.every must be at least 1", "0"]),
        (change("every = 3", 'every = "x"'), ["method 1: setting 2"]),
        (change("{every = 3, order = 2, correct = true}", "{}"), ["setting 'uniform' occurs twice at 9 steps"]),
        (change("{steps = 6}", "{step = 6}"), ["method 2: setting 2", "sub-grid has no setting 'step'; known: steps"]),
        (change("{steps = 6}", "{}"), ["method 2: setting 2", "steps is missing"]),
        (change("{steps = 6}", "{steps = 6, every = 2}"), ["method 2: setting 2", "no setting 'every'", "steps"]),
        (change("{steps = 6}", '{steps = 6, solver = "deis"}'), ["method 2: setting 2", "no setting 'solver'"]),
        (fewer("6.5"), ["method 3: setting 1", "solver must be a name", "6.5"]),
        (fewer('"deas"'), ["method 3: setting 1", "'deas'", "deis"]),
        (fewer('"ddpm"'), ["method 3: setting 1", "'ddpm' draws noise"]),
        (change("{steps = 6}", "{steps = 10}"), ["method 2: setting 2", "10", "8 of a case"]),
        (change("steps = [9]\nsettings", "steps = [7]\nsettings"), ["method 3", "no case has 7 steps", "9, 8"]),
        (change("speedups = [1.5]", "speedups = [0.5]"), ["report", "speedups", "at least 1"]),
        (change('rivals = ["uniform"]', 'rivals = ["sada"]'), ["report: rivals", "'sada'", "uniform"]),
        (change('"sub-grid steps=4"]', '"sub-grid steps=5"]'), ["timing: settings", "'sub-grid steps=5'", "steps=4"]),
        (change("steps = [8]", "steps = [5]"), ["timing", "no case has 5 steps"]),
        (change("{steps = 6}", "{steps = 0}"), ["method 2: setting 2", "steps must be a whole number", "got 0"]),
        (change("batch = 2", 'batch = 2.0\nmetrics = "fid"'), ["m: batch must", "2.0\n", "m: metrics must", "'fid'"]),
        (change("batch = 2", "guidance = nan"), ["suite m: guidance must be a finite number, got nan"]),
        (change("batch = 2", "guidance = true"), ["suite m: guidance must be a finite number, got True"]),
        (change("speedups = [1.5]", "speedup = [1.5]"), ["suite m: report: unknown key 'speedup'; known: speedups"]),
        (change('accelerator = "uniform"', 'accelerator = " "'), ["method 1: accelerator must be a text, got ' '"]),
        ("method = 1\nreport = 2\ncase = []", ["method must be a list of tables", "report must be a table", "got []"]),
    ],
)  # fmt: skip
def test_a_bad_suite_is_refused_with_place_and_remedy(text: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        parse_suite(text, "m")
    assert all(word in str(caught.value) for word in words), caught.value


def test_fewer_steps_may_be_another_solvers() -> None:
    suite = parse_suite(fewer('"unipc"'), "m")
    (setting,) = (one for method in suite.methods for one in method.settings if one.accelerator == FEWER_STEPS)
    case = suite.cases[0]
    solver, accelerator = setting.arrange(case, ANALYTIC[case.model]())
    assert (case.solver, setting.label) == ("euler", "fewer-steps steps=4 solver=unipc")
    assert isinstance(solver, UniPC) and solver.n_evals == 4 and accelerator is None


def test_prompts_are_needed_by_checkpoints_alone() -> None:
    checkpoint = MIXTURE.replace("mixture-vp", "tiny-sd").replace("mixture-flow", "tiny-flux")
    with pytest.raises(ValueError, match="prompts is missing"):
        parse_suite(checkpoint, "m")
    assert len(parse_suite('prompts = ["a", "b"]\n' + checkpoint, "m").samples) == 6
    with pytest.raises(ValueError, match="unknown key 'prompts'"):
        parse_suite('prompts = ["a", "b"]\n' + MIXTURE, "m")


def test_what_does_not_fit_a_solver_is_refused_before_any_work(tmp_path: Path) -> None:
    text = change("{every = 3, order = 2, correct = true}", "{order = 6}")
    with pytest.raises(ValueError, match=r"'uniform order=6' on mixture-vp, euler, 9 steps: .* at least 10 steps"):
        run_bench(parse_suite(text, "m"), tmp_path / "out")
    assert not (tmp_path / "out" / "samples.jsonl").exists()


def test_a_network_that_a_method_cannot_use_is_refused_before_any_work(tmp_path: Path) -> None:
    text = 'model = "tiny-flux"\nprompts = ["x"]\nseeds = [0]\n[[case]]\nsolvers = ["euler"]\nsteps = [9]\n'
    text += '[[method]]\nname = "deep"\naccelerator = "deepcache"\nsettings = [{}]\n'
    with pytest.raises(ValueError, match=r"'deepcache' on tiny-flux, euler, 9 steps: .* needs a U-Net"):
        run_bench(parse_suite(text, "m"), tmp_path / "out")
    assert not (tmp_path / "out" / "references").exists()


def on(checkpoint: Path) -> str:
    return f"""
model = {json.dumps(str(checkpoint))}
guidance = 3.0
batch = 2
prompts = ["a", "b"]
seeds = [1]
[[case]]
solvers = ["euler"]
steps = [8]
[[method]]
accelerator = "uniform"
[[method]]
accelerator = "fewer-steps"
settings = [{{steps = 4}}]
"""


def test_command_measures_a_checkpoint(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(on(checkpoint))
    assert main(["bench", "mine.toml", "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == Path("out/table.md").read_text().strip()
    pipe = Pipeline.from_pretrained(checkpoint)
    call: dict[str, Any] = {"solver": "euler", "guidance": 3.0, "seed": [1, 1], "output": "tensor"}
    plain, fewer = (pipe(["a", "b"], steps=steps, **call).images.numpy() for steps in (8, 4))
    expected = [peak_signal_noise_ratio(plain[i], fewer[i], data_range=1) for i in range(2)]
    found = [record for record in lines(Path("out")) if record["setting"] == "fewer-steps steps=4"]
    assert [record["psnr"] for record in found] == pytest.approx(expected, abs=1e-3)
    assert table_of(printed, f"{checkpoint}, euler, 8 steps, guidance 3", 0)["fewer-steps steps=4"][3:6] == [
        f"{np.mean(expected):.2f}", f"{np.percentile(expected, 5):.2f}", f"{min(expected):.2f}"
    ]  # fmt: skip
    assert main(["bench", "mine.toml", "--out", "out"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["bench", "mine.toml", "--out", "out", "--resume"]) == 0


def test_other_weights_have_another_fingerprint(checkpoint: Path) -> None:
    pipe = Pipeline.from_pretrained(checkpoint)
    first = PipelineSubject(pipe).fingerprint
    assert PipelineSubject(Pipeline.from_pretrained(checkpoint)).fingerprint == first
    assert isinstance(pipe.vae, torch.nn.Module)
    with torch.no_grad():
        next(pipe.vae.parameters()).mul_(1.001)
    assert PipelineSubject(pipe).fingerprint != first


def test_unknown_suites_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "quack", "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert "'quack'" in message and "fronts-tiny-sd" in message and ".toml" in message
    (tmp_path / "latin.toml").write_bytes("# \xe9".encode("latin-1"))
    assert main(["bench", str(tmp_path / "latin.toml"), "--out", str(tmp_path / "out")]) == 2
    assert "UTF-8" in capsys.readouterr().err and not (tmp_path / "out").exists()
