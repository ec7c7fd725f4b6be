"""Guidance caching and combinations of accelerators against plain formulas, network calls, and rejected settings."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sadaflow import Auto, GuidedDenoiser, Pipeline, Uniform, sample
from sadaflow.accelerators import (
    Accelerator,
    AdaptiveDiffusion,
    Combined,
    DeepCache,
    FirstBlock,
    Guidance,
    Mode,
    PlainRun,
    SeaCache,
    TaylorSeer,
    make_accelerator,
)
from sadaflow.bench.run.memory import peak_memory
from sadaflow.checks import check_accelerator
from sadaflow.checks.laws import LAWS
from sadaflow.models import Seam, Site
from sadaflow.solvers import Grid, RectifiedFlow, Solver, VPDiscrete, make_betas, make_solver


@pytest.mark.parametrize(
    ("factory", "never"),
    [
        pytest.param(Guidance, lambda: Guidance(every=1), marks=pytest.mark.slow),
        (lambda: Combined(Uniform(), Guidance(3, 0)), lambda: Combined(Uniform(every=1), Guidance(every=1))),
        pytest.param(lambda: Combined(SeaCache(), FirstBlock(0.3)), None, marks=pytest.mark.slow),
        pytest.param(lambda: Combined(Auto(), TaylorSeer(4, 2)), None, marks=pytest.mark.slow),
    ],
    ids=["guidance", "uniform+guidance", "seacache+first-block", "auto+taylorseer"],
)
def test_they_pass_the_examination(factory: Callable[[], Accelerator], never: Callable[[], Accelerator] | None) -> None:
    schedules = ("flow", "vp") if never is None else ("flow", "vp", "edm")  # SeaCache: see test_rivals_outside
    # SeaCache and FirstBlock each wait for a decision of their own.
    laws = [measure.name for measure in LAWS if never is not None or measure.name != "host reads"]
    check_accelerator(factory, never=never, steps=32, solvers=("euler", "heun"), schedules=schedules, laws=laws)


GUIDANCE = 3.0
STEPS = 16


class Network:
    """A backbone of no layers that notes how many rows each call had."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, x: Tensor, timestep: float, *, seam: Seam, prompt: Tensor) -> Tensor:
        self.rows.append(len(x))
        return branch(x, timestep, prompt)


def branch(x: Any, timestep: float, prompt: Any) -> Any:
    return 0.3 * x + prompt * (1 + timestep / 1000) ** 2 - x / (1 + x * x)


def problem(flow: bool) -> tuple[Solver, GuidedDenoiser, Tensor, Network]:
    vp = VPDiscrete(torch.cumprod(1 - make_betas("scaled_linear", 1000, 0.00085, 0.012), 0))
    times = torch.linspace(1, 0, STEPS + 1) if flow else torch.linspace(980, -1, STEPS + 1)
    solver = make_solver("euler", Grid.from_t(RectifiedFlow() if flow else vp, times))
    generator = torch.Generator().manual_seed(0)
    noise, prompt, negative = (torch.randn(2, 1, 2, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    network = Network()
    denoise = GuidedDenoiser(
        network, solver.nodes, "flow_prediction" if flow else "epsilon", {"prompt": prompt}, {"prompt": negative},
        GUIDANCE, torch.float64,
    )  # fmt: skip
    return solver, denoise, noise, network


def by_hand(
    solver: Solver, denoise: GuidedDenoiser, noise: Tensor, flow: bool, alone: Sequence[int], skipped: Sequence[int],
    order: int,
) -> np.ndarray[Any, Any]:  # fmt: skip
    """Euler's method written out; what guidance adds is held or on a line in log(alpha / sigma) at the steps `alone`,
    and x0 on one, through the last two evaluations, at the steps `skipped`."""
    points = [(node.alpha, node.sigma, node.timestep) for node in solver.nodes] + [(1.0, 0.0, 0.0)]
    x = noise.numpy() * points[0][1]
    prompt, negative = denoise.conditional["prompt"].numpy(), denoise.negative["prompt"].numpy()  # type: ignore[index]
    added: list[tuple[float, Any]] = []
    clean: list[tuple[float, Any]] = []

    def line(past: list[tuple[float, Any]], at: float) -> Any:
        (before, old), (now, new) = past[-2:]
        return new + (new - old) * (at - now) / (now - before)

    for i, ((a, s, t), (b, r, _)) in enumerate(pairwise(points)):
        time = math.log(a / s) if a else -math.inf
        if i in skipped:
            x0 = line(clean, time)
        else:
            output = branch(x, t, prompt)
            if i in alone:
                output = output + (line(added, time) if order else added[-1][1])
            else:
                more = (GUIDANCE - 1) * (output - branch(x, t, negative))
                added += [(time, more)] if a else []
                output = output + more
            x0 = x - s * output if flow else (x - s * output) / a
            clean += [(time, x0)] if a else []
        x = b * x0 + r * (x - a * x0) / s
    return x


@pytest.mark.parametrize("flow", [False, True], ids=["noise", "flow"])
@pytest.mark.parametrize(
    ("accelerator", "order", "alone", "skipped"),
    [
        (Guidance(), 1, range(2, 14, 2), []),
        (Guidance(every=3, order=0), 0, [1, 2, 4, 5, 7, 8, 10, 11, 13], []),
        (Guidance(every=4, order=1, start=0.25, end=0.7), 1, [4, 5, 6, 8, 9, 10], []),
        (make_accelerator("uniform+guidance"), 1, [3, 7, 11], range(2, 14, 2)),
    ],
    ids=["every-2nd", "every-3rd-held", "between", "with-uniform"],
)
def test_guidance_is_the_formula(
    accelerator: Accelerator, order: int, alone: Sequence[int], skipped: Sequence[int], flow: bool
) -> None:
    solver, denoise, noise, network = problem(flow)
    if flow:  # pure noise, whose log-SNR is infinite, is no node, so that the first ones come a step later
        late = not isinstance(accelerator, Guidance) or accelerator.start == 0
        alone = [i + late for i in alone if i + late < STEPS - 2]
        skipped = [i + 1 for i in skipped if i + 1 < STEPS - 2]
    out = sample(solver, denoise, noise, accelerator)
    expected = {**dict.fromkeys(alone, "conditional"), **dict.fromkeys(skipped, "extrapolated")}
    assert out.stats.modes == [[expected.get(i, "full") for i in range(STEPS)]] * 2
    assert out.stats.nfe == [STEPS - len(skipped) - len(alone) / 2] * 2
    assert network.rows == [2 if i in alone else 4 for i in range(STEPS) if i not in skipped]
    np.testing.assert_allclose(out.x.numpy(), by_hand(solver, denoise, noise, flow, alone, skipped, order), rtol=1e-9)


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained()


def test_on_a_trained_network(pipe: Pipeline) -> None:
    call: dict[str, Any] = {"prompt": ["hot dog", "tree"], "steps": 20, "seed": 3, "guidance": 5.0, "output": "latent"}
    plain = pipe(**call)
    assert torch.equal(pipe(**call, accelerator=Guidance(every=1)).latents, plain.latents)
    half = pipe(**call, accelerator="guidance")
    assert half.stats.nfe == [20 - 0.5 * modes.count("conditional") for modes in half.stats.modes] == [16.0] * 2
    near, far = ((out.latents - plain.latents).norm() for out in (half, pipe(**{**call, "guidance": 1.0})))
    assert 0 < near < 0.05 * far


@pytest.mark.parametrize(
    ("model", "guidance", "reason"),
    [("tiny-sd", 1.0, "guidance is 1 or less"), ("tiny-flux", 3.5, "embedded in the network")],
)
def test_refused_where_there_is_no_negative_branch(model: str, guidance: float, reason: str) -> None:
    for accelerator in ("guidance", "uniform+guidance"):
        with pytest.raises(ValueError, match=f"negative branch.*{reason}"):
            Pipeline.from_pretrained(model)("hot dog", steps=8, guidance=guidance, accelerator=accelerator)


def test_refused_for_a_plain_callable() -> None:
    solver, denoise, noise, _ = problem(flow=True)
    with pytest.raises(ValueError, match="no `evaluate_branches`, as `BranchDenoise`"):
        sample(solver, lambda x, step: denoise(x, step), noise, "guidance")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("uniform+auto", "Uniform and Auto.*both decide which steps are evaluated"),
        ("sada+easycache", "SADA and EasyCache.*both decide which steps are evaluated"),
        ("deepcache+guidance", "DeepCache and Guidance.*both decide how an evaluation is made"),
        ("teacache+first-block", "TeaCache and FirstBlock.*both decide how an evaluation is made"),
        ("guidance+uniform", "the first has to decide which steps are evaluated; put Guidance second"),
        ("uniform+guidance+deepcache", "names 3; two can be combined"),
        ("uniform+warp", "unknown accelerator 'warp'"),
    ],
)
def test_combinations_that_make_no_sense(name: str, reason: str) -> None:
    solver, denoise, noise, _ = problem(flow=False)
    with pytest.raises(ValueError, match=reason):
        sample(solver, denoise, noise, name)


def test_a_full_evaluation_on_a_skipped_step_is_made_up_for() -> None:
    """DeepCache wants steps 0, 3, 6, 9, 12 and 15; uniform skipping evaluates 0, 2, 4, ..., 14 and 15."""
    solver, _, noise, _ = problem(flow=False)

    class Entered:
        def __call__(self, x: Tensor, step: int) -> Tensor:
            raise AssertionError

        def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
            deep = Site("deep", "only", 0, (2, 2))
            return 0.5 * seam(deep, lambda hidden: calls.append(step) or hidden, x)  # type: ignore[func-returns-value]

    calls: list[int] = []
    out = sample(solver, Entered(), noise, Combined(Uniform(every=2, order=0), DeepCache(interval=3)))
    letters = "".join(mode[0] for mode in out.stats.modes[0])
    assert letters == "fecefefecefefecf"  # full at 4 and 10 in place of 3 and 9
    assert calls == [step for step, letter in enumerate(letters) if letter == "f"]


def test_what_the_network_predicts_is_held_where_the_denoiser_tells() -> None:
    solver, denoise, noise, _ = problem(flow=False)
    ends: dict[tuple[str, str | None, bool], Tensor] = {}
    for prediction, reuse, combined in product(("epsilon", "v_prediction"), (None, "epsilon", "v"), (False, True)):
        plain = AdaptiveDiffusion(1.0, reuse=reuse)
        accelerator = Combined(plain, Guidance(every=1)) if combined else plain
        told = replace(denoise, prediction=prediction)
        ends[prediction, reuse, combined] = sample(solver, told, noise, accelerator).x
    for combined in (False, True):
        assert torch.equal(ends["epsilon", None, combined], ends["epsilon", "epsilon", combined])
        assert torch.equal(ends["v_prediction", None, combined], ends["v_prediction", "v", combined])
        assert not torch.allclose(ends["v_prediction", None, combined], ends["v_prediction", "epsilon", combined])


def test_split_guidance_asks_for_a_branch_at_a_time() -> None:
    solver, denoise, noise, network = problem(flow=True)
    together = sample(solver, denoise, noise).x
    asked, network.rows = network.rows, []
    split = replace(denoise, split_guidance=True)
    torch.testing.assert_close(sample(solver, split, noise).x, together, rtol=0, atol=1e-12)
    assert asked == [4] * STEPS and network.rows == [2] * (2 * STEPS)
    network.rows = []
    sample(solver, split, noise, FirstOfAll())
    assert network.rows == [4] * STEPS  # a seam counts on both branches


class FirstOfAll(Uniform):
    """Evaluates every step, through a seam that does nothing."""

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Any:
        class Run(PlainRun):
            def plan(self, step: int) -> list[Mode]:
                return [Mode.FULL] * self.samples

            def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
                return lambda site, fn, hidden, *args: fn(hidden, *args)

        return Run(shape[0])


def test_split_guidance_of_a_pipeline_takes_less_memory() -> None:
    pipe = Pipeline.from_pretrained()
    runs = []
    for pipe.split_guidance in (False, True):
        call = partial(pipe, "red apple", steps=2, output="latent", progress=False)
        runs.append((call().latents, peak_memory(call, pipe.device)))
    (together, most), (split, less) = runs
    torch.testing.assert_close(split, together, rtol=1e-4, atol=1e-4)
    assert less < most
