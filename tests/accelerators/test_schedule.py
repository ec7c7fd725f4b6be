"""`schedule`: published sets of steps, the ways to give one, and predictions against loops written out here."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import lagrange

from sadaflow import sample
from sadaflow.accelerators import Schedule, make_accelerator
from sadaflow.accelerators.skipping.base import OutputRun
from sadaflow.accelerators.steps.choice import mask_of_choice
from sadaflow.accelerators.steps.published import PUBLISHED, published_mask
from sadaflow.accelerators.steps.rescaling import rescaled
from sadaflow.accelerators.steps.scm import scm_mask
from sadaflow.accelerators.steps.searched import Searched, read_searched
from sadaflow.accelerators.steps.spectrum_steps import spectrum_steps
from sadaflow.checks import check_accelerator
from sadaflow.checks.networks import Plain
from sadaflow.checks.problems import Modes
from sadaflow.checks.runs import solver_of
from sadaflow.solvers import Grid, RectifiedFlow, make_solver

NUMBERS = (4, 8, 10, 20, 28, 30, 50)


def text(mask: Any) -> str:
    return "".join("01"[evaluated] for evaluated in mask)


@pytest.mark.parametrize(
    ("speed", "published"),
    [
        ("slow", "1111111101110011100110010001"),
        ("fast", "1111110100010000100000100001"),
        ("ultra", "1111001000001000000100000001"),
        ("slow", "11111111011100111001"),
        ("fast", "11111101000000000001"),
        ("fast", "11111111111001100000110000000110000000001100000001"),
        ("ultra", "11111110001100000000011000000000001100000000000001"),
        ("medium", "111101101"),
        ("ultra", "11001001"),
    ],
)
def test_released_masks_are_cache_dits(speed: str, published: str) -> None:
    expected = published if len(published) > 9 else {9: "111110101", 8: "11001001"}[len(published)]
    assert text(scm_mask(speed, len(published), released=True)) == expected


def test_masks_for_other_numbers_keep_their_density() -> None:
    for speed, share in [("slow", 18 / 28), ("medium", 15 / 28), ("fast", 11 / 28), ("ultra", 8 / 28)]:
        assert scm_mask(speed, 28) == scm_mask(speed, 28, released=True)
        for steps in (20, 30, 50, 100):
            mask = scm_mask(speed, steps)
            assert len(mask) == steps and mask[0] and mask[-1]
            assert sum(mask) == pytest.approx(share * steps, abs=1.5)
    assert max(map(len, text(scm_mask("fast", 20)).split("1"))) == 5  # where the released one ends in 11 skips
    for wrong in (5, 7):
        with pytest.raises(ValueError, match=f"no mask 'scm-slow-released' for {wrong} steps"):
            scm_mask("slow", wrong, released=True)
    with pytest.raises(ValueError, match="unknown steps mask 'scm-quick'; known are scm-slow"):
        scm_mask("quick", 20)


def test_rescaling_by_whole_factors_is_known() -> None:
    assert text(rescaled([True, True, False, False, True], 10)) == "1111000011"
    assert rescaled([True, False, True], 1) == (True,)
    assert sum(rescaled([True] * 25 + [False] * 25, 10)) == 6  # 5, and the last


def test_spectrums_windows_are_those_of_the_published_loop() -> None:
    assert sorted(spectrum_steps(50)) == [0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 25, 31, 38, 46]
    assert sorted(spectrum_steps(50, flex=3)) == [0, 1, 2, 3, 4, 6, 11, 19, 30, 44]
    assert [len(spectrum_steps(50, flex=flex)) for flex in (0.25, 0.5, 0.75, 1, 2, 3)] == [18, 15, 14, 13, 11, 10]
    assert [len(spectrum_steps(steps)) for steps in (20, 28, 30)] == [9, 11, 11]
    # stable-diffusion.cpp: flex 0.5, steps from 0.9 of the run on evaluated
    assert sorted(spectrum_steps(20, flex=0.5, warmup=4, last=2)) == [0, 1, 2, 3, 5, 7, 10, 13, 17, 18, 19]
    assert len(spectrum_steps(50, flex=0.5, warmup=4, last=5)) == 19


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("zeus-sd", 26), ("zeus-flux", 27), ("zeus-wan", 23), ("zeus-cogvideox", 21), ("meancache-qwen-25", 25),
        ("meancache-qwen-17", 17), ("meancache-qwen-10", 10), ("meancache-qwen2512-25", 25),
        ("meancache-qwen2512-17", 17), ("meancache-qwen2512-10", 10), ("meancache-zimage-25", 25),
        ("meancache-zimage-17", 17), ("meancache-zimage-15", 15), ("meancache-zimage-13", 13), ("spectrum-0.75", 14),
    ],
)  # fmt: skip
def test_published_sets_have_the_published_number_of_evaluations(name: str, count: int) -> None:
    assert sum(published_mask(name, 50)) == count


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_set_has_a_mask_for_many_numbers_of_steps(name: str) -> None:
    for steps in NUMBERS:
        mask = published_mask(name, steps)
        assert len(mask) == steps and mask[0] and any(mask)


def test_the_ways_to_give_a_set() -> None:
    expected = (True, False, False, True, False, True)
    for choice in ("100101", expected, (0, 3, 5), (0.0, 0.6, 1.0), "[0, 3,5]", "(0.0,0.6,1.0)"):
        assert mask_of_choice(choice, 6) == expected
        assert Schedule(evaluated=choice).evaluated == choice
    assert mask_of_choice((0.0, 0.6, 1.0), 11) == tuple(step in (0, 6, 10) for step in range(11))
    assert make_accelerator("schedule") == Schedule()


@pytest.mark.parametrize(
    ("evaluated", "said"),
    [
        ("fastest", "unknown set of steps 'fastest': give a mask"),
        ("", "unknown set of steps ''"),
        ("[0,x]", r"unknown set of steps '\[0,x\]'"),
        ((), "a set of steps is a name"),
        (5, "a set of steps is a name"),
        ((0, 0.5), "only bools"),
        (("0", "1"), "only bools"),
        ((-1, 2), "indices from 0 on"),
        ((0.0, 1.5), "fractions from 0 to 1"),
        ((0.0, math.nan), "fractions from 0 to 1"),
    ],
)
def test_sets_that_mean_nothing_are_refused(evaluated: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Schedule(evaluated=evaluated)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Schedule(evaluated="1101"), "mask is one of 4 steps, the solver makes 8"),
        (Schedule(evaluated=(0, 8)), "step 8 is to be evaluated, but the solver makes 8 steps, 0 to 7"),
        (Schedule(evaluated=(1, 7)), "needs step 0 to be evaluated$"),
        (Schedule(evaluated=(0, 7), variable="v"), "v_prediction needs"),
    ],
)
def test_sets_that_do_not_fit_are_refused_before_work(settings: Schedule, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings.begin(solver_of("euler", 8), torch.Size((1, 2, 4, 4)), seams=False)
    with pytest.raises(ValueError, match=r"Schedule\.predictor must be held or linear or .*, got 'best'"):
        Schedule(predictor="best")


def test_at_pure_noise_the_second_step_is_needed_too() -> None:
    solver = make_solver("euler", Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, 9, dtype=torch.float64)))
    shape = torch.Size((1, 2, 4, 4))
    with pytest.raises(ValueError, match="needs step 1 to be evaluated, because pure noise"):
        Schedule(evaluated=(0, 4, 7)).begin(solver, shape, seams=False)
    Schedule(evaluated=(0, 4, 7), predictor="hermite").begin(solver, shape, seams=False)


@pytest.mark.parametrize(
    ("variable", "predictor", "degree", "axis"),
    [
        ("x0", "linear", 1, "log_snr"), ("eps", "held", 0, "log_snr"), ("v", "quadratic", 2, "log_snr"),
        ("flow", "linear", 1, "log_snr"), (None, "lagrange", 3, "step"),
    ],
)  # fmt: skip
def test_estimates_are_polynomials_through_the_last_evaluations(
    variable: Any, predictor: str, degree: int, axis: str
) -> None:
    """With scipy's polynomials, element by element, on a recorded run."""
    steps, evaluated = 16, (0, 1, 2, 3, 6, 7, 10, 14)
    solver, data = solver_of("dpmpp2m", steps, "vp"), Modes.drawn(2, (1, 2, 2))
    noise = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    run = sample(solver, Plain(solver, data, "eps"), noise, Schedule(evaluated, predictor, variable), trace=True)
    trace = run.trace
    assert trace is not None and run.stats.nfe == [len(evaluated)] * 2
    kind = "eps" if variable is None else variable

    def output(x: Any, x0: Any, step: int) -> Any:
        a, s = solver.nodes[step].alpha, solver.nodes[step].sigma
        eps = (x - a * x0) / s
        return {"x0": x0, "eps": eps, "v": a * eps - s * x0, "flow": eps - x0}[kind]

    def clean(value: Any, x: Any, step: int) -> Any:
        a, s = solver.nodes[step].alpha, solver.nodes[step].sigma
        return {"x0": value, "eps": (x - s * value) / a, "v": a * x - s * value, "flow": (x - s * value) / (a + s)}[
            kind
        ]

    for row in range(2):
        x, x0 = trace.x[row].double().numpy(), trace.x0[row].double().numpy()
        for step in range(steps):
            assert (trace.modes[row][step] == "full") == (step in evaluated)
            if step in evaluated:
                continue
            past = [each for each in evaluated if each < step][-degree - 1 :]
            at = [float(each) if axis == "step" else solver.nodes[each].log_snr for each in (*past, step)]
            values = np.stack([output(x[each], x0[each], each) for each in past]).reshape(len(past), -1)
            predicted = [lagrange(at[:-1], column)(at[-1]) for column in values.T]
            expected = clean(np.reshape(predicted, x[step].shape), x[step], step)
            np.testing.assert_allclose(x0[step], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variable", ["x0", "eps"])
def test_replayed_steps_are_the_solvers_with_interpolated_x0(variable: str) -> None:
    """One gap by hand: the two skipped steps are taken again with the parabola through three evaluations."""
    solver = solver_of("euler", 8, "vp")
    data = Modes.drawn(1, (1, 2, 2))
    denoise = Plain(solver, data, "eps")
    noise = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    settings = Schedule((0, 1, 4, 5, 6, 7), "linear", variable, correct=True)
    trace = sample(solver, denoise, noise, settings, trace=True).trace
    assert trace is not None
    x0 = {step: trace.x0[0, step].double() for step in (0, 1, 4)}
    at = [node.log_snr for node in solver.nodes]
    state = solver.step(solver.start(noise), x0[0][None])
    state = solver.step(state, x0[1][None])
    for step in (2, 3):
        parabola = [lagrange([at[0], at[1], at[4]], [float(x0[each].flatten()[i]) for each in (0, 1, 4)])(at[step])
                    for i in range(4)]  # fmt: skip
        state = solver.step(state, torch.tensor(parabola, dtype=torch.float64).view(1, 1, 2, 2))
    torch.testing.assert_close(trace.x[0, 4].double(), state.x[0], rtol=1e-5, atol=1e-6)


def test_a_searched_file_sets_what_is_not_given(tmp_path: Path) -> None:
    found = Searched("110101", "kriging", True, "Euler()", "abc", 5.0, 8, "def", -3.0, {"110101": -3.0})
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found.to_json()))
    assert read_searched(path) == found
    assert Schedule(str(path)) == Schedule("110101", "kriging", "x0", True)
    assert Schedule(str(path), predictor="held", correct=False) == Schedule("110101", "held", "x0", False)
    for change, said in [
        ({"format": 0}, "format 0, this version reads 1"),
        ({"mask": "12"}, "mask must be a string of 0 and 1"),
        ({"more": 1}, "unknown fields: more"),
        ({"correct": 1}, "correct true or false"),
    ]:
        path.write_text(json.dumps(found.to_json() | change))
        with pytest.raises(ValueError, match=said):
            Schedule(str(path))
    path.write_text("[]")
    with pytest.raises(ValueError, match="holds no object"):
        Schedule(str(path))
    with pytest.raises(ValueError, match="cannot be read"):
        Schedule(str(tmp_path / "none.json"))


def test_outputs_run_in_the_networks_own_type_if_asked() -> None:
    assert Schedule(variable=None).fitted("v_prediction").variable == "v_prediction"
    assert Schedule().fitted("v_prediction").variable == "x0"
    assert issubclass(type(Schedule().begin(solver_of("euler", 8), torch.Size((1, 2)), seams=False)), OutputRun)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"predictor": "kriging", "correct": True}, {"predictor": "chebyshev", "variable": None}]
)
def test_it_passes_the_examination(settings: dict[str, Any]) -> None:
    check_accelerator(lambda: Schedule(**settings), solvers=("dpmpp2m", "heun", "midpoint", "dpmpp2m-sde"))
