"""Cases with prompts of their own: a checkpoint that is sampled by class beside one that reads prompts."""

from pathlib import Path

import pytest

from sadaflow import Pipeline
from sadaflow.bench import parse_suite, run_bench
from sadaflow.bench.suite.model import Sample
from sadaflow.metrics import psnr
from support.bench import MIXTURE, lines

TWO = """
batch = 2
prompts = ["red apple"]
seeds = [0, 4]
[[case]]
model = "tiny-flux"
solvers = ["euler"]
steps = [5]
[[case]]
model = "tiny-dit"
prompts = ["maze", "3"]
solvers = ["euler"]
steps = [6]
[[method]]
name = "fewer steps"
accelerator = "fewer-steps"
settings = [{ steps = 4 }]
[timing]
rounds = 1
samples = 3
"""


def test_each_case_has_its_own_samples() -> None:
    suite = parse_suite(TWO, "m")
    flux, dit = suite.cases
    assert suite.samples_of(flux) == (Sample("red apple", 0), Sample("red apple", 4))
    assert suite.samples_of(dit) == tuple(Sample(name, seed) for name in ("maze", "3") for seed in (0, 4))
    assert [len(batch) for batch in suite.batches(dit)] == [2, 2]
    assert suite.size == 2 * (2 + 4)
    given = parse_suite(TWO, "m", [Sample("pizza", 9)])
    assert {sample.prompt for sample in given.samples_of(flux)} == {"pizza"}
    assert given.samples_of(dit) == suite.samples_of(dit)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TWO.replace('"maze", "3"', '"maze", "maze"'), "case 2: prompts holds an entry twice"),
        (TWO.replace('"tiny-flux"', '"tiny-dit"'), "case 2: prompts differ from those of another case of tiny-dit"),
        (TWO.replace('["maze", "3"]', "3"), "case 2: prompts must be a list of texts"),
        (MIXTURE.replace("steps = [9]", 'steps = [9]\nprompts = ["maze"]', 1), "case 1: unknown key 'prompts'"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_suite(text, "m")


def test_a_bench_samples_by_class_and_reports_every_case(tmp_path: Path) -> None:
    run_bench(parse_suite(TWO, "m"), tmp_path / "out")
    found = [line for line in lines(tmp_path / "out") if line["model"] == "tiny-dit"]
    assert [(line["prompt"], line["seed"]) for line in found if line["setting"] == "plain"] == [
        ("maze", 0), ("maze", 4), ("3", 0), ("3", 4)
    ]  # fmt: skip
    pipe = Pipeline.from_pretrained("tiny-dit")
    call = {"class_labels": "maze", "seed": [0, 4], "solver": "euler", "output": "tensor", "accelerator": None}
    plain, few = (pipe(**call, steps=steps).images for steps in (6, 4))
    coarse = [line["psnr"] for line in found if line["setting"] == "fewer-steps steps=4"][:2]
    assert psnr(few, plain).tolist() == pytest.approx(coarse, abs=1e-3)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "maze, seed 4" in page and "red apple, seed 0" in page
