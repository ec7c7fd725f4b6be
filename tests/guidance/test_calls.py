"""Guidance in calls, at the command line, in files of prompts and in metadata; against Diffusers where it has it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from sadaflow import Edit, Pipeline
from sadaflow.cli import main
from sadaflow.files.png import read_text
from sadaflow.guidance import APG, CFG, GUIDANCE, Compose, Interval, Linear, Rescale, guidance_text, make_guidance
from sadaflow.guidance.registry import REGISTRY
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints import stable_diffusion
from support.pages import read_page, run_program

PROMPTS = ["red apple", "hot dog"]
FEW: dict[str, Any] = {"steps": 4, "height": 32, "width": 32, "seed": [0, 1], "output": "latent"}
TEXTS = {
    "cfg scale=3.0": CFG(3.0),
    "7 + rescale phi=0.5": Rescale(CFG(7.0), 0.5),
    "apg scale=(3,5) eta=0.5": APG((3.0, 5.0), eta=0.5),
    "linear first=7 last=1": CFG(Linear(7.0, 1.0)),
    "apg + compose weights=0.5,-1 prompts='in snow','a: b' + interval low=0.3": Interval(
        Compose(APG(), (0.5, -1.0), ("in snow", "a: b")), low=0.3
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("guidance") / "sd21", "sd21")


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained()


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_rescale_and_edits_between_steps_are_those_of_diffusers(folder: Path) -> None:
    reference = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    reference.set_progress_bar_config(disable=True)
    reference.scheduler = DPMSolverMultistepScheduler.from_config(reference.scheduler.config)
    noise = initial_noise((4, 16, 16), [3, 4])
    shift = 0.1 * initial_noise((4, 16, 16), [5, 6])

    def move(_: object, step: int, timestep: int, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"latents": tensors["latents"] + shift} if step in (2, 5) else tensors

    how: dict[str, Any] = {"latents": noise, "num_inference_steps": 8, "guidance_scale": 6.0, "output_type": "latent"}
    theirs = reference(PROMPTS, guidance_rescale=0.7, callback_on_step_end=move, **how)[0]
    ours = Pipeline.from_pretrained(folder)(
        PROMPTS, noise=noise, steps=8, solver="dpmpp2m", guidance=6.0, guidance_rescale=0.7, output="latent",
        observer=lambda step: Edit(x=step.x_next + shift) if step.index in (2, 5) else None,
    )  # fmt: skip
    assert relative(ours.latents, theirs) < 1e-4


@pytest.mark.parametrize("text", TEXTS)
def test_texts_name_rules(text: str) -> None:
    rule = make_guidance(text)
    assert rule == TEXTS[text] and make_guidance(guidance_text(rule)) == rule


def test_ways_to_ask_for_the_same_give_the_same(pipe: Pipeline) -> None:
    each = pipe(PROMPTS, guidance=[3.0, 6.0], **FEW)
    for row, scale in enumerate((3.0, 6.0)):
        alone = pipe(PROMPTS[row], guidance=scale, **{**FEW, "seed": row})
        assert torch.allclose(alone.latents[0], each.latents[row], atol=1e-4)
    wrapped = pipe(PROMPTS, guidance=5.0, guidance_rescale=0.5, guidance_interval=(0.3, math.inf), **FEW)
    rule = pipe(PROMPTS, guidance=Interval(Rescale(CFG(5.0), 0.5), low=0.3), **FEW)
    text = pipe(PROMPTS, guidance="5 + rescale phi=0.5 + interval low=0.3", **FEW)
    assert torch.equal(wrapped.latents, rule.latents) and torch.equal(wrapped.latents, text.latents)
    falling = pipe(PROMPTS, guidance=lambda moment: 7 - 6 * moment.fraction, **FEW)
    assert torch.allclose(falling.latents, pipe(PROMPTS, guidance=CFG(Linear(7, 1)), **FEW).latents, atol=1e-5)
    assert falling.stats.nfe == [3.5, 3.5]


def test_a_further_condition_of_weight_0_changes_nothing(pipe: Pipeline) -> None:
    plain = pipe(PROMPTS, guidance=CFG(5.0), **FEW).latents
    for weight, same in ((0.0, True), (0.5, False)):
        composed = pipe(PROMPTS, guidance=Compose(CFG(5.0), (weight,), ("green",)), **FEW).latents
        assert torch.allclose(composed, plain, atol=1e-4) is same


WRONG = [
    ({"guidance": "strong"}, "guidance='strong' cannot be used: unknown guidance 'strong'"),
    ({"guidance": APG}, "guidance=the class APG cannot be used"),
    ({"guidance": [1.0, 2.0, 3.0]}, "guidance has 3 numbers for 2 samples"),
    ({"guidance": 1, "guidance_rescale": 0.5}, "guidance_rescale=0.5 needs a negative branch"),
    ({"guidance": 1, "guidance_interval": (0, 1)}, "guidance_interval=\\(0.0, 1.0\\) needs a negative branch"),
    ({"guidance_interval": (3, 1)}, "guidance_interval needs 0 <= low < high"),
    ({"guidance_interval": 3}, "guidance_interval must be \\(low, high\\)"),
    ({"guidance_rescale": 2}, "guidance_rescale must lie between 0 and 1"),
    ({"guidance": "zero-star"}, "this network predicts v_prediction: use zero_steps=0"),
    ({"guidance": Compose(CFG(5.0), (0.5,))}, "Compose needs the prompts"),
    ({"guidance": lambda moment: None}, "CFG.scale at step 0 of 4 must be a finite number"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_what_cannot_be_is_refused_by_name(pipe: Pipeline, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pipe(PROMPTS, **wrong, **FEW)


def test_files_record_the_rule_and_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--steps", "3", "--height", "32", "--width", "32", "--accelerate", "none"]
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "fox", "guidance": 3}\n{"prompt": "owl"}\n')
    rule = ["--guidance", "apg scale=6 + compose weights=0.5 prompts='a: b'"]
    further = ["--guidance-rescale", "0.5", "--guidance-interval", "0.3", "inf"]
    assert main(["generate", "fox", *rule, *further, "--out", "a.png", *few]) == 0
    record = json.loads(read_text(Path("a.png"))["sadaflow"])
    assert make_guidance(record["guidance"]) == Compose(APG(6.0), (0.5,), ("a: b",))
    assert main(["repeat", "a.png", "--out", "b.png"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert main(["generate", "--prompts", "prompts.jsonl", "--guidance", "cfg-pp", "--out", "many", *few]) == 0
    records = [json.loads(read_text(file)["sadaflow"]) for file in sorted(Path("many").glob("*.png"))]
    assert [record["guidance"] for record in records] == [3.0, "cfg-pp scale=0.6"]


def test_a_wrong_rule_in_a_file_of_prompts_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,guidance\nfox,3\nowl,apq\n")
    assert main(["generate", "--prompts", str(prompts), "--out", str(tmp_path / "out")]) == 2
    assert "line 3 --guidance 'apq' cannot be used" in capsys.readouterr().err


def test_the_page_lists_every_rule() -> None:
    assert [name for name in REGISTRY.built_in if f"| `{name}`" not in read_page("guidance.md")] == []


@pytest.mark.slow
def test_the_programs_of_the_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_added", {})
    run_program("guidance.md", monkeypatch)
    assert "magnitude" in GUIDANCE
