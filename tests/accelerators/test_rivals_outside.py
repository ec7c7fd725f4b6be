"""Published rules that skip whole evaluations, decision by decision against their formulas on recorded trajectories.

The formulas are written here anew in numpy, over the states and predictions of a trace; nothing is shared with the
accelerators.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.hooks.sea_cache import _apply_sea_filter

from sadaflow import Pipeline
from sadaflow.accelerators import Accelerator, AdaptiveDiffusion, EasyCache, SeaCache, make_accelerator
from sadaflow.accelerators.skipping.base import OutputRun
from sadaflow.accelerators.skipping.seacache import filtered
from sadaflow.checks import check_accelerator
from sadaflow.solvers import EDM, Grid, Point, Preconditioned, RectifiedFlow, VPDiscrete, make_betas, make_solver
from support.records import Record, size

Array = np.ndarray[Any, Any]
Rule = Callable[[Record], Iterator[tuple[str, Array | None]]]


@pytest.mark.parametrize(
    ("factory", "never"),
    [
        (AdaptiveDiffusion, lambda: AdaptiveDiffusion(threshold=0.0)),
        (EasyCache, lambda: EasyCache(threshold=0.0)),
        (SeaCache, lambda: SeaCache(threshold=0.0)),
    ],
    ids=["adaptive-diffusion", "easycache", "seacache"],
)
@pytest.mark.slow
def test_they_pass_the_examination(factory: Callable[[], Accelerator], never: Callable[[], Accelerator] | None) -> None:
    """EasyCache and SeaCache keep output - input, which has no meaning for the unscaled states of EDM."""
    schedules = ("flow", "vp", "edm") if factory is AdaptiveDiffusion else ("flow", "vp")
    solvers = ("dpmpp2m", "heun", "midpoint", "dpmpp2m-sde")
    check_accelerator(factory, never=never, steps=50, solvers=solvers, schedules=schedules)


def test_a_preconditioned_network_is_given_scaled_states() -> None:
    """c_in = 1 / sqrt(sigma^2 + sigma_data^2), Karras et al. 2022, Table 1."""
    sigmas = [80.0, 5.0, 0.5, 0.0]
    solver = make_solver("euler", Grid.from_t(EDM(), sigmas))
    run = OutputRun(solver, 1, Preconditioned(sigma_data=0.5))
    x = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for step, sigma in enumerate(sigmas[:-1]):
        torch.testing.assert_close(run.network_input(x, step), x / math.sqrt(sigma**2 + 0.25), rtol=1e-12, atol=0)
    assert torch.equal(OutputRun(solver, 1, "epsilon").network_input(x, 1), x)


def adaptive_diffusion(record: Record, threshold: float = 0.01, cap: int = 4) -> Iterator[tuple[str, Array | None]]:
    """As the published pipeline goes: lists of latents, differences and verdicts (True: compute), step by step."""
    latents: list[Array] = []
    differences: list[float] = []
    verdicts: list[bool] = []
    output = record.v[0]
    for i in range(record.steps):
        if len(latents) <= 3:
            output = record.v[i]
            if len(latents) > 1:
                differences.append(size(latents[-1] - latents[-2]))
            yield "full", None
        elif verdicts[-1]:
            output = record.v[i]
            yield "full", None
        else:
            yield "reused", record.x0_of(output, i)
        if i == record.steps - 1:
            return
        new = record.x[i + 1]
        if len(latents) >= 3:
            now, before, earlier = size(new - latents[-1]), differences[-1], differences[-2]
            differences.append(now)
            if len(verdicts) > 4 and not any(verdicts[-cap:]):
                verdicts.append(True)
            else:
                verdicts.append(not abs((now + earlier) / 2 - before) <= before * threshold)
        latents.append(new)


def easycache(
    record: Record, threshold: float = 0.05, first: int = 5, last: int | None = None, every: int = 1,
    anchored: bool = False,
) -> Iterator[tuple[str, Array | None]]:  # fmt: skip
    last = record.steps - 1 if last is None else last
    error, k = 0.0, None
    computed: list[int] = []

    def part(x: Array) -> Array:
        return x[:, ::every, ::every]

    for i in range(record.steps):
        compute = True
        if i < first or i >= last:
            error = 0.0
        elif k is not None:
            c = computed[-1]
            moved = record.x[i] - record.x[c if anchored else i - 1]
            error += k * size(part(moved)) / size(part(record.v[c]))
            compute = not error < threshold
            if compute:
                error = 0.0
        if not compute:
            c = computed[-1]
            yield "reused", record.x0_of(record.x[i] + (record.v[c] - record.x[c]), i)
            continue
        yield "full", None
        if computed:
            c = computed[-1]
            k = size(part(record.v[i] - record.v[c])) / size(part(record.x[i] - record.x[c]))
        computed.append(i)


def seacache(record: Record, threshold: float = 0.25, order: int = 1) -> Iterator[tuple[str, Array | None]]:
    total, run = 0.0, 0
    offsets: list[tuple[int, Array]] = []
    indicators: list[Array] = []
    for i in range(record.steps):
        a, s = max(record.alpha[i], 1e-6), record.sigma[i]
        gain = np.ones((1, 1))
        for axis, count in enumerate(record.x[i].shape[1:]):
            frequency = np.abs(np.fft.fftfreq(count))
            power = 1 / (frequency**2 + 1e-300)
            wiener = np.where(frequency == 0, 1 / a, a * power / (a * a * power + s * s))
            gain = gain * (wiener[:, None] if axis == 0 else wiener[None, :])
        indicators.append(np.fft.ifft2(np.fft.fft2(record.x[i]) * gain / gain.mean()).real)
        if i == 0 or i == record.steps - 1 or run == 2:
            compute = True
        else:
            total += size(indicators[i] - indicators[i - 1]) / size(indicators[i - 1])
            compute = total >= threshold
        if compute:
            total, run = 0.0, 0
            offsets.append((i, record.v[i] - record.x[i]))
            yield "full", None
        else:
            run += 1
            (step, offset) = offsets[-1]
            if order == 1 and len(offsets) > 1:
                earlier, older = offsets[-2]
                offset = offset + (offset - older) * (i - step) / (step - earlier)
            yield "reused", record.x0_of(record.x[i] + offset, i)


@pytest.fixture(scope="module", params=["tiny-sd", "tiny-flux"])
def pipe(request: pytest.FixtureRequest) -> Pipeline:
    return Pipeline.from_pretrained(request.param)


@pytest.mark.parametrize(
    ("accelerator", "rule"),
    [
        (AdaptiveDiffusion(0.007), lambda record: adaptive_diffusion(record, 0.007)),
        (AdaptiveDiffusion(0.015, max_skips=2), lambda record: adaptive_diffusion(record, 0.015, 2)),
        (EasyCache(0.15, start=0.2), lambda record: easycache(record, 0.15)),
        (
            EasyCache(0.1, 0.2, 0.9, subsample=8, from_evaluated=True),
            lambda record: easycache(record, 0.1, last=22, every=8, anchored=True),
        ),
        (SeaCache(0.25), lambda record: seacache(record, 0.25)),
        (SeaCache(0.12, order=0), lambda record: seacache(record, 0.12, order=0)),
    ],
    ids=["adaptive-diffusion", "adaptive-diffusion-2", "easycache", "easycache-comfy", "seacache", "seacache-held"],
)
def test_decisions_and_answers_are_those_of_the_formulas(pipe: Pipeline, accelerator: Accelerator, rule: Rule) -> None:
    assert pipe.prediction in ("v_prediction", "flow_prediction")
    flow = pipe.prediction == "flow_prediction"
    out = pipe(
        ["hot dog", "tree"], steps=24, guidance=1.0, seed=[100, 7], accelerator=accelerator, trace=True,
        solver="euler", output="latent",
    )  # fmt: skip
    assert out.trace is not None
    for row, nfe in enumerate(out.stats.nfe):
        record = Record(out.trace, row, flow)
        expected = list(rule(record))
        assert list(record.modes) == [mode for mode, _ in expected]
        assert nfe == record.modes.count("full") and 4 <= nfe <= 21
        for i, (_, x0) in enumerate(expected):
            if x0 is not None:
                np.testing.assert_allclose(record.x0[i], x0, rtol=0, atol=1e-4 * np.abs(x0).max())


@pytest.mark.parametrize(("flow_time", "size"), [(0.9, (16, 16)), (0.3, (8, 12)), (0.001, (5, 7))])
def test_the_filter_is_diffusers(flow_time: float, size: tuple[int, int]) -> None:
    x = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    ours = filtered(x, Point(flow_time, 1 - flow_time, flow_time), exponent=3.0)
    for one, expected in zip(ours, x, strict=True):
        reference = _apply_sea_filter(expected[:, None].movedim(0, -1), flow_time, 3.0)  # (frames, h, w, channels)
        torch.testing.assert_close(one, reference[0].movedim(-1, 0), rtol=1e-4, atol=1e-5)


def test_what_is_held_still_is_what_networks_on_the_schedule_predict() -> None:
    """One skipped step of AdaptiveDiffusion's kind on each schedule, by hand."""
    vp = VPDiscrete(torch.cumprod(1 - make_betas("scaled_linear", 1000, 0.00085, 0.012), 0))
    grids = {
        "vp": Grid.from_t(vp, torch.linspace(900, -1, 9)),
        "flow": Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, 9)),
        "edm": Grid.from_t(EDM(), torch.linspace(10, 0, 9)),
    }
    generator = torch.Generator().manual_seed(0)
    x, x0, later = (torch.randn(1, 2, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    for name, kind in [("vp", None), ("vp", "v"), ("flow", None), ("edm", None), ("edm", "sample")]:
        solver = make_solver("euler", grids[name])
        a, s = solver.nodes[3].alpha, solver.nodes[3].sigma
        b, r = solver.nodes[4].alpha, solver.nodes[4].sigma
        eps = (x - a * x0) / s
        expected = {
            ("vp", None): (later - r * eps) / b,
            ("vp", "v"): b * later - r * (a * eps - s * x0),
            ("flow", None): later - r * (eps - x0),
            ("edm", None): later - r * eps,
            ("edm", "sample"): x0,
        }[name, kind]
        run = AdaptiveDiffusion(reuse=kind).begin(solver, x.shape, seams=False)
        for step in range(4):
            run.observe(step, x, x0, x, x)
        torch.testing.assert_close(run.estimate(4, later, [0]), expected)
    with pytest.raises(ValueError, match="v_prediction needs"):
        SeaCache(reuse="v").begin(make_solver("euler", grids["edm"]), x.shape, seams=False)
    with pytest.raises(ValueError, match="epsilon does not determine x0"):
        EasyCache(reuse="eps").begin(make_solver("euler", grids["flow"]), x.shape, seams=False)
    with pytest.raises(ValueError, match="'noise'.*known are"):
        EasyCache(reuse="noise").begin(make_solver("euler", grids["vp"]), x.shape, seams=False)


@pytest.mark.parametrize(
    ("name", "kind", "field", "value"),
    [
        ("adaptive-diffusion", AdaptiveDiffusion, "threshold", -1.0),
        ("adaptive-diffusion", AdaptiveDiffusion, "max_skips", 0),
        ("easycache", EasyCache, "threshold", math.nan),
        ("easycache", EasyCache, "start", 1.5),
        ("easycache", EasyCache, "subsample", 0),
        ("seacache", SeaCache, "threshold", math.inf),
        ("seacache", SeaCache, "order", 2),
        ("seacache", SeaCache, "first", 0),
        ("seacache", SeaCache, "exponent", 0.0),
    ],
)
def test_names_and_settings(name: str, kind: Any, field: str, value: float) -> None:
    assert make_accelerator(name) == kind()
    with pytest.raises(ValueError, match=rf"{kind.__name__}.*{value}"):
        kind(**{field: value})
