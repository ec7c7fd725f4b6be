"""Runs with guidance rules: what is evaluated is what is counted, and samples do not depend on their company."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import Denoiser, Guided, GuidedDenoiser, Sampled, sample
from sadaflow.accelerators import SADA, Uniform, make_accelerator
from sadaflow.guidance import APG, CFG, CFGPlusPlus, CFGZeroStar, Compose, Interval, Linear, Rescale, Rule, Threshold
from sadaflow.models import Seam
from sadaflow.sampling.blending import BlendedDenoiser
from sadaflow.solvers import Adaptive, Grid, Node, RectifiedFlow, Solver, make_solver

STEPS, SAMPLES = 16, 3
RULES: dict[str, Rule] = {
    "cfg": CFG(4.0),
    "each": CFG((3.0, 1.0, 5.0)),
    "linear": CFG(Linear(4.0, 1.0)),
    "apg": APG(4.0, threshold=2.0),
    "zero-star": CFGZeroStar(4.0, zero_steps=2),
    "interval": Interval(CFG(4.0), low=0.3, high=3.0),
    "nested": Interval(Rescale(APG(4.0), 0.5), low=0.3, high=3.0),
    "threshold": Threshold(CFG(4.0), quantile=0.9),
    "cfg-pp": CFGPlusPlus(0.6),
    "compose": Compose(CFG(4.0), weights=(0.5,)),
}


@dataclass
class Counting:
    """A network of flow, tanh of a shifted state, that counts the rows that it is called with."""

    rows: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor, timestep: float, *, seam: Seam, shift: Tensor) -> Tensor:
        self.rows.append(len(x))
        return torch.tanh(x * 1.3 + shift[:, :, None, None]) - timestep / 1500 * x


def solver_of(name: str = "dpmpp2m", steps: int = STEPS) -> Solver:
    return make_solver(name, Grid.from_t(RectifiedFlow(), torch.linspace(0.99, 0, steps + 1, dtype=torch.float64)))


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NOISE = drawn(0, SAMPLES, 2, 4, 4)


def condition(seed: int, rows: Sequence[int]) -> dict[str, Tensor]:
    return {"shift": drawn(seed, SAMPLES, 2)[list(rows)]}


def denoiser_of(
    rule: Any, network: Counting, nodes: Sequence[Node], rows: Sequence[int] = range(SAMPLES)
) -> GuidedDenoiser:
    further = rule.further if isinstance(rule, Rule) else 0
    if isinstance(rule, CFG) and isinstance(rule.scale, tuple):
        rule = CFG(tuple(rule.scale[row] for row in rows))
    conditional, negative, *others = (condition(seed, rows) for seed in range(1, 3 + further))
    return GuidedDenoiser(network, nodes, "flow", conditional, negative, rule, torch.float64, others=others)


def run(rule: Any, accelerator: Any = None, rows: Sequence[int] = range(SAMPLES)) -> tuple[Sampled, Counting]:
    solver, network = solver_of(), Counting()
    return sample(solver, denoiser_of(rule, network, solver.nodes, rows), NOISE[list(rows)], accelerator), network


ACCELERATORS = {
    "none": None,
    "sada": SADA(tokens=False),
    "auto": make_accelerator("auto"),
    "uniform": Uniform(every=2),
    "guidance": make_accelerator("guidance every=2"),
}


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize("name", RULES)
def test_nfe_counts_the_rows_of_the_network(name: str, accelerator: str) -> None:
    done, network = run(RULES[name], ACCELERATORS[accelerator])
    branches = 2 + RULES[name].further
    assert sum(done.stats.nfe) * branches == pytest.approx(sum(network.rows))


@pytest.mark.parametrize("accelerator", ["none", "sada", "auto", "uniform"])
@pytest.mark.parametrize("name", ["each", "zero-star", "nested", "compose"])
def test_a_sample_is_the_same_in_any_batch(name: str, accelerator: str) -> None:
    together, _ = run(RULES[name], ACCELERATORS[accelerator])
    for row in range(SAMPLES):
        alone, _ = run(RULES[name], ACCELERATORS[accelerator], [row])
        assert torch.allclose(alone.x[0], together.x[row], atol=1e-9)
        assert alone.stats.nfe[0] == pytest.approx(together.stats.nfe[row])


@pytest.mark.parametrize("name", ["apg", "nested"])
def test_each_run_begins_with_an_empty_memory(name: str) -> None:
    solver = solver_of()
    denoise = denoiser_of(RULES[name], Counting(), solver.nodes)
    first, second = (sample(solver, denoise, NOISE).x for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.allclose(first, run(CFG(4.0))[0].x, atol=1e-3)


def test_momentum_counts_the_evaluations_of_each_sample_for_itself() -> None:
    rule = APG(4.0, threshold=0.0, eta=1.0, momentum=-0.5)
    solver = solver_of()
    denoise = denoiser_of(rule, Counting(), solver.nodes).begun(solver)
    states = [drawn(seed, SAMPLES, 2, 4, 4) for seed in range(3)]
    seam: Any = lambda site, fn, *args: fn(*args)  # noqa: E731
    plain = denoiser_of(CFG(1.5), Counting(), solver.nodes)
    rows = [[0, 1, 2], [1], [0, 1]]
    sums = torch.zeros(SAMPLES, 2, 4, 4, dtype=torch.float64)
    for step, some in enumerate(rows):
        x = states[step][some]
        guided, conditional = plain.evaluate_branches(x, step, some, seam)
        sums[some] = 2 * (guided - conditional) - 0.5 * sums[some]
        assert torch.allclose(denoise.evaluate(x, step, some, seam), conditional + 3 * sums[some], atol=1e-9)


def test_an_interval_is_two_runs_by_hand() -> None:
    rule, solver = RULES["interval"], solver_of()
    alone, both = (denoiser_of(scale, Counting(), solver.nodes) for scale in (CFG(1.0), CFG(4.0)))
    state, guided = solver.start(NOISE), 0
    while state.step < solver.n_evals:
        node = solver.nodes[state.step]
        inside = 0.3 <= node.sigma / node.alpha <= 3.0
        guided += inside
        state = solver.step(state, (both if inside else alone)(state.x, state.step))
    done, network = run(rule)
    assert torch.allclose(done.x, state.x, atol=1e-9)
    assert 0 < guided < STEPS
    assert done.stats.nfe == [guided + (STEPS - guided) / 2] * SAMPLES
    assert network.rows.count(SAMPLES) == STEPS - guided


@pytest.mark.parametrize("name", ["uniform", "sada", "auto", "guidance"])
def test_evaluations_are_in_full_where_guidance_begins_and_ends(name: str) -> None:
    done, _ = run(RULES["interval"], ACCELERATORS[name])
    inside = [0.3 <= node.sigma / node.alpha <= 3.0 for node in solver_of().nodes]
    changes = [step for step in range(1, STEPS) if inside[step] != inside[step - 1]]
    assert len(changes) == 2
    assert all(modes[step] == "full" for modes in done.stats.modes for step in changes)


def test_cfg_plus_plus_of_ddim_is_its_paper_written_out() -> None:
    solver, network = solver_of("ddim"), Counting()
    denoise = denoiser_of(CFGPlusPlus(0.6), network, solver.nodes)
    found, x = sample(solver, denoise, NOISE).x, solver.start(NOISE).x
    for here, following in zip(solver.grid.points, solver.grid.points[1:], strict=False):
        timestep = solver.nodes[solver.grid.points.index(here)].timestep
        flows = [
            network(x, timestep, seam=None, shift=condition(seed, range(SAMPLES))["shift"])  # type: ignore[arg-type]
            for seed in (2, 1)
        ]
        x0 = [(x - here.sigma * flow) / (here.alpha + here.sigma) for flow in flows]
        eps = (x - here.alpha * x0[0]) / here.sigma  # of the negative branch
        x = following.alpha * (x0[0] + 0.6 * (x0[1] - x0[0])) + following.sigma * eps
    assert torch.allclose(found, x, atol=1e-8)


@pytest.mark.parametrize("name", RULES)
def test_a_wrapped_network_takes_the_same_rules(name: str) -> None:
    rule, solver, network = RULES[name], solver_of(), Counting()
    further = rule.further
    conditional, negative, *others = (condition(seed, range(SAMPLES)) for seed in range(1, 3 + further))

    def module(x: Tensor, time: Tensor, shift: Tensor) -> Tensor:
        return network(x, float(time[0]), seam=None, shift=shift)  # type: ignore[arg-type]

    guidance = Guided(rule, negative=negative, others=others)
    made: Any = Denoiser.wrap(
        module, prediction="flow", schedule=RectifiedFlow(), conditioning=conditional, guidance=guidance
    )
    done = sample(solver, made, NOISE)
    expected, _ = run(rule)
    assert torch.allclose(done.x, expected.x, atol=1e-9) and done.stats.nfe == expected.stats.nfe
    twice = sample(solver, made, NOISE, Uniform(every=2))
    assert torch.allclose(twice.x, run(rule, Uniform(every=2))[0].x, atol=1e-9)


def test_guided_channels_are_those_named() -> None:
    def module(x: Tensor, time: Tensor, shift: Tensor) -> Tensor:
        return torch.tanh(x) + shift[:, :, None, None]

    solver, found = solver_of(), []
    for channels in (None, 1):
        guidance = Guided(APG(4.0), negative=condition(2, range(SAMPLES)), channels=channels)
        made: Any = Denoiser.wrap(
            module, prediction="flow", schedule=RectifiedFlow(), conditioning=condition(1, range(SAMPLES)),
            guidance=guidance,
        )  # fmt: skip
        found.append(sample(solver, made, NOISE).x)
    plain: Any = Denoiser.wrap(
        module, prediction="flow", schedule=RectifiedFlow(), conditioning=condition(1, range(SAMPLES))
    )
    assert torch.allclose(found[1][:, 1], sample(solver, plain, NOISE).x[:, 1], atol=1e-9)
    assert not torch.allclose(found[1][:, 0], found[0][:, 0], atol=1e-3)


def test_a_picture_that_is_kept_outside_a_mask_goes_with_every_rule() -> None:
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    solver, network, kept = solver_of(), Counting(), drawn(7, 1, 2, 4, 4)
    inner = denoiser_of(RULES["nested"], network, solver.nodes)
    done = sample(solver, BlendedDenoiser(inner, mask, kept), NOISE)
    assert sum(done.stats.nfe) * 2 == sum(network.rows)
    assert torch.allclose(done.x[..., 2:], kept[..., 2:].expand(SAMPLES, -1, -1, -1), atol=1e-9)
    assert torch.equal(done.x, sample(solver, BlendedDenoiser(inner, mask, kept), NOISE).x)


def test_one_branch_of_three_counts_a_third() -> None:
    solver, network = solver_of(), Counting()
    denoise = replace(
        denoiser_of(3.0, network, solver.nodes), picture=condition(5, range(SAMPLES)), picture_guidance=1.5
    )
    x = drawn(8, SAMPLES, 2, 4, 4)
    negative, picture, conditional = (
        network(x, solver.nodes[3].timestep, seam=None, shift=condition(seed, range(SAMPLES))["shift"])  # type: ignore[arg-type]
        for seed in (2, 5, 1)
    )
    flow = negative + 1.5 * (picture - negative) + 3.0 * (conditional - picture)
    node = solver.nodes[3]
    assert torch.allclose(denoise(x, 3), (x - node.sigma * flow) / (node.alpha + node.sigma), atol=1e-9)
    network.rows.clear()
    done = sample(solver, denoise, NOISE, make_accelerator("guidance every=2"))
    assert sum(done.stats.nfe) * 3 == pytest.approx(sum(network.rows)) and SAMPLES in network.rows


def test_adaptive_solvers_take_rules_that_need_no_step() -> None:
    solver = Adaptive(RectifiedFlow(), 0.99, 0.01, rtol=1e-2, atol=1e-2)
    network = Counting()
    done = sample(solver, denoiser_of(RULES["interval"], network, solver.nodes), NOISE)
    assert sum(done.stats.nfe) * 2 == sum(network.rows) < 2 * SAMPLES * len(network.rows)
    for name in ("apg", "linear", "cfg-pp", "zero-star"):
        with pytest.raises(ValueError, match="depends on the step|CFG\\+\\+ needs|leaves none"):
            sample(solver, denoiser_of(RULES[name], Counting(), solver.nodes), NOISE)


def test_branches_that_do_not_fit_the_rule_are_refused() -> None:
    solver = solver_of()
    denoise = denoiser_of(4.0, Counting(), solver.nodes)
    with pytest.raises(ValueError, match="combines 3 branches, and this denoiser has 2"):
        replace(denoise, guidance=RULES["compose"])
    with pytest.raises(ValueError, match="needs a solver with one evaluation"):
        heun = solver_of("heun")
        sample(heun, denoiser_of(CFGPlusPlus(), Counting(), heun.nodes), NOISE)
    with pytest.raises(ValueError, match="Guided.others has 0"):
        Denoiser.wrap(
            lambda x, time, shift: x, prediction="flow", schedule=RectifiedFlow(),
            conditioning=condition(1, range(SAMPLES)), guidance=Guided(RULES["compose"], negative={"shift": 0.0}),
        )  # fmt: skip
