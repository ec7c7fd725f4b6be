"""`bench speed`: accelerators by name, and the recorded modes of a run replayed."""

import json
from pathlib import Path

import pytest
import torch

from sadaflow import Uniform, sample
from sadaflow.accelerators import Mode
from sadaflow.accelerators.auto import Auto
from sadaflow.accelerators.registry import ACCELERATORS, make_accelerator
from sadaflow.accelerators.sada import SADA
from sadaflow.bench.speed import Speed, run_speed
from sadaflow.bench.speed.controller import settings as controlled
from sadaflow.bench.speed.controller import unfit
from sadaflow.bench.speed.forced import Forced, read_modes, replayed
from sadaflow.bench.suite.mixture import ANALYTIC
from sadaflow.solvers.exact import GaussianMixture
from support.speed import CPU, FLOAT


def test_replayed_modes_give_what_the_recorded_run_gave() -> None:
    """Of one that estimates and corrects as `Forced` does: the same decisions are the same sample, to the bit."""
    subject = ANALYTIC["mixture-flow"]()
    solver, noise = subject.solver("euler", 12), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one = GaussianMixture(torch.ones(1), torch.zeros(1, 192), torch.eye(192)[None] / 4).denoiser(solver)
    recorded = sample(solver, one, noise, Uniform(every=3, order=2, correct=True))
    again = sample(solver, one, noise, Forced([[Mode(mode) for mode in modes] for modes in recorded.stats.modes]))
    assert again.stats.modes == recorded.stats.modes
    assert "extrapolated" in again.stats.modes[0]
    assert torch.equal(again.x, recorded.x)
    assert not torch.equal(again.x, sample(solver, one, noise).x)


def test_samples_are_replayed_each_in_its_own_way() -> None:
    solver = ANALYTIC["mixture-vp"]().solver("dpmpp2m", 6)
    skipping = [Mode.FULL, Mode.FULL, Mode.STEPWISE, Mode.MULTISTEP, Mode.FULL, Mode.FULL]
    modes = [skipping, [Mode.FULL] * 6]
    one = GaussianMixture(torch.ones(1), torch.zeros(1, 192), torch.eye(192)[None] / 4).denoiser(solver)
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    made = sample(solver, one, noise, Forced(modes))
    assert made.stats.modes == [[mode.value for mode in row] for row in modes]
    torch.testing.assert_close(made.x[1], sample(solver, one, noise).x[1], rtol=0, atol=0)
    with pytest.raises(ValueError, match="2 samples and \\[6\\] steps; 3 samples"):
        Forced(modes).begin(solver, torch.Size((3, 4)), seams=False)
    with pytest.raises(ValueError, match="'tokens' of sample 0"):
        Forced([[Mode.FULL, Mode.FULL, Mode.TOKENS]])
    with pytest.raises(ValueError, match="first two steps"):
        Forced([[Mode.FULL, Mode.REUSED]])


def test_recorded_modes_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    full = ["full"] * 3
    recorded = {"a": [[*full, "extrapolated"]], "short": [full], "part": [[*full, "tokens"]]}
    file.write_text(json.dumps({"modes": recorded}))
    assert set(read_modes(file)) == {"a", "short", "part"}
    assert {name: one.modes for name, one in replayed(file, 4).items()} == {"a": recorded["a"]}
    with pytest.raises(ValueError, match="no modes of 5 steps"):
        replayed(file, 5)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_modes(tmp_path / "nowhere.json")
    for content in ({}, {"modes": {}}, {"modes": {"a": ["full"]}}, {"modes": {"a": [["half"]]}}, {"modes": {"a": []}}):
        file.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"speed\.json"):
            read_modes(file)


def test_accelerators_are_named_with_their_arguments() -> None:
    assert make_accelerator("auto") == Auto()
    assert make_accelerator("sada tokens=false estimator=ab3") == SADA(tokens=False, estimator="ab3")
    for wrong, said in (
        ("sadda x=1", "sadda"),
        ("auto tolerence=1", "tolerence"),
        ("auto tolerance", "setting=value"),
        ("auto tolerance=-1", "tolerance"),
        ('auto tolerance="a"', "Auto.tolerance must be a number"),
    ):
        with pytest.raises(ValueError, match=said):
            make_accelerator(wrong)


def test_what_works_inside_the_network_has_no_controller_to_measure() -> None:
    accelerators = {name: make_accelerator(name) for name in (*ACCELERATORS, "uniform+guidance")}
    found = unfit(accelerators, 20)
    outside = {"adaptive-diffusion", "auto", "easycache", "meancache", "sada", "sada-released", "schedule", "seacache",
               "spectrum", "uniform", "zeus"}  # fmt: skip
    assert outside == set(accelerators) - set(found)
    assert "branches" in found["guidance"] and "at least 13" in unfit(accelerators, 12)["sada"]
    acts = controlled({name: accelerators[name] for name in outside}, 20, CPU)
    for one in acts.values():
        assert set(one()) == {"controller", "solver", "nfe"}
    assert acts["plain"]()["nfe"] == 20 and acts["uniform"]()["nfe"] < 15


def test_accelerators_that_do_not_fit_are_refused_before_work(tmp_path: Path) -> None:
    speed = Speed(("tiny-sd",), ("sampling",), steps=4, accelerators=("sada",), alone=True)
    with pytest.raises(ValueError, match="'sada' on tiny-sd.*at least 13"):
        run_speed(speed, tmp_path / "out", tmp_path, device=CPU, dtype=FLOAT)
