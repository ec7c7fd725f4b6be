"""SADA and uniform skipping in the sampling loop, on denoisers known in closed form."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import SADA, Auto, Mode, Uniform, sample
from sadaflow.accelerators import make_accelerator
from sadaflow.models import Seam, Site
from sadaflow.solvers import Grid, RectifiedFlow, SeededNoise, Solver, make_solver

SHAPE = (2, 6, 6)


def solver_of(steps: int, name: str = "dpmpp2m", end: float = 0.0) -> Solver:
    times = torch.linspace(0.999, end, steps + 1, dtype=torch.float64)
    return make_solver(name, Grid.from_t(RectifiedFlow(), times))


class Gaussians:
    """Exact x0 for data whose positions are independent normals: mean m, standard deviation s, own to each sample.

    `wiggle` (B,) adds an oscillation from step to step, which makes a trajectory unstable.
    """

    def __init__(self, solver: Solver, mean: Tensor, deviation: Tensor, wiggle: Tensor) -> None:
        self.nodes, self.mean, self.deviation, self.wiggle = solver.nodes, mean, deviation, wiggle
        self.calls: list[tuple[int, list[int]]] = []

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), None)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam | None) -> Tensor:
        self.calls.append((step, list(rows)))
        node, index = self.nodes[step], list(rows)
        mean, variance = self.mean[index], self.deviation[index] ** 2
        gain = node.alpha * variance / (node.alpha**2 * variance + node.sigma**2)
        answer = mean + gain * (x - node.alpha * mean)
        answer = answer + self.wiggle[index].view(-1, 1, 1, 1) * math.sin(2.5 * step)
        if seam is None:
            return answer
        size = (x.shape[-2], x.shape[-1])
        tokens = seam(Site("block", "only", 0, size), lambda hidden: hidden, answer.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, size)


def problem(steps: int, samples: int = 3, name: str = "euler") -> tuple[Solver, Gaussians, Tensor]:
    generator = torch.Generator().manual_seed(5)
    solver = solver_of(steps, name)
    mean = torch.randn(samples, *SHAPE, generator=generator, dtype=torch.float64)
    mean *= torch.logspace(-1, 0, samples, dtype=torch.float64).view(-1, 1, 1, 1)
    deviation = torch.rand(samples, *SHAPE, generator=generator, dtype=torch.float64) + 0.05
    noise = torch.randn(samples, *SHAPE, generator=generator, dtype=torch.float64)
    wiggle = torch.zeros(samples, dtype=torch.float64)
    wiggle[-1] = 0.01
    return solver, Gaussians(solver, mean, deviation, wiggle), noise


def restricted(denoise: Gaussians, rows: list[int]) -> Gaussians:
    solver = solver_of(len(denoise.nodes))
    return Gaussians(solver, denoise.mean[rows], denoise.deviation[rows], denoise.wiggle[rows])


@pytest.mark.parametrize("accelerator", [SADA(), SADA(tokens=False), Uniform(), Uniform(3, 2, correct=True), Auto()])
@pytest.mark.parametrize("steps", [15, 25, 50])
def test_skips_pay_and_stay_close(accelerator: SADA | Uniform | Auto, steps: int) -> None:
    solver, denoise, noise = problem(steps)
    plain = sample(solver, denoise, noise)
    fast = sample(solver, denoise, noise, accelerator)
    assert plain.stats.nfe == [float(steps)] * 3
    assert max(fast.stats.nfe) < 0.9 * steps
    assert (fast.x - plain.x).abs().mean() < 0.02 * plain.x.std()


def test_nfe_and_modes_tell_what_was_evaluated() -> None:
    solver, denoise, noise = problem(50)
    stats = sample(solver, denoise, noise, "sada").stats
    for row in range(3):
        asked = [step for step, rows in denoise.calls if row in rows]
        evaluated = [step for step, mode in enumerate(stats.modes[row]) if mode in ("full", "tokens")]
        assert asked == evaluated
        assert stats.nfe[row] == len(evaluated)
        assert len(stats.modes[row]) == 50


@pytest.mark.parametrize("name", ["sada", "sada-released", "auto"])
def test_a_sample_is_the_same_alone_and_in_any_batch(name: str) -> None:
    solver, denoise, noise = problem(50, samples=4)
    together = sample(solver, denoise, noise, name)
    assert len({tuple(modes) for modes in together.stats.modes}) > 1, "the samples should not all decide alike"
    for rows in ([0], [3], [2, 1]):
        alone = sample(solver, restricted(denoise, rows), noise[rows], name)
        assert alone.stats.modes == [together.stats.modes[row] for row in rows]
        torch.testing.assert_close(alone.x, together.x[rows], rtol=1e-10, atol=1e-10)


def test_runs_leave_no_trace_in_the_settings() -> None:
    solver, denoise, noise = problem(50)
    settings = SADA()
    first = sample(solver, denoise, noise, settings)
    other, other_denoise, other_noise = problem(15, samples=1)
    sample(other, other_denoise, other_noise, settings)
    again = sample(solver, denoise, noise, settings)
    assert torch.equal(first.x, again.x) and first.stats.modes == again.stats.modes


def test_the_schedule_of_modes_is_the_papers() -> None:
    solver, denoise, noise = problem(50, samples=8)
    every = sample(solver, denoise, noise, "sada").stats.modes
    assert {mode for modes in every for mode in modes} == {"full", "tokens", "stepwise", "multistep"}
    for modes in every:
        assert set(modes[:10]) == {"full"} and set(modes[47:]) == {"full"}
        assert set(modes[10:24]) <= {"full", "tokens", "stepwise"}
        assert modes[24:47] == [("full" if (step - 24) % 4 == 0 else "multistep") for step in range(24, 47)]
        skipped = "".join("s" if mode == "stepwise" else "." for mode in modes)
        assert "sssss" not in skipped


@pytest.mark.parametrize("name", ["euler", "dpmpp2m"])
def test_the_released_code_computes_and_skips_its_fixed_steps(name: str) -> None:
    """Of 50 steps the published settings compute 19 and skip 17 whatever the sample; 11 to 24 are decided."""
    solver, denoise, noise = problem(50, samples=6, name=name)
    for modes in sample(solver, denoise, noise, "sada-released").stats.modes:
        computed = {step for step, mode in enumerate(modes) if mode == "full"}
        always = {*range(11), 25, 29, 33, 37, 41, 45, 48, 49}
        assert always <= computed <= always | set(range(11, 25))
        assert {modes[step] for step in range(11, 25)} <= {"full", "stepwise"}


def test_plain_callables_are_answered_for_the_whole_batch_and_counted_so() -> None:
    solver, denoise, noise = problem(50)
    answers = sample(solver, lambda x, step: denoise(x, step), noise, SADA(tokens=False))
    rows = sample(solver, denoise, noise, SADA(tokens=False))
    torch.testing.assert_close(answers.x, rows.x, rtol=1e-10, atol=1e-10)
    assert len(set(answers.stats.nfe)) == 1 and answers.stats.nfe[0] >= max(rows.stats.nfe)


def test_never_skipping_is_plain_sampling() -> None:
    solver, denoise, noise = problem(20)
    plain = sample(solver, denoise, noise)
    for accelerator in (Uniform(every=1), Uniform(every=1, correct=True), Auto(tolerance=0.0)):
        never = sample(solver, denoise, noise, accelerator)
        assert torch.equal(plain.x, never.x)
        assert never.stats.nfe == [20.0] * 3


@pytest.mark.parametrize("name", ["euler", "dpmpp2m", "dpmpp3m"])
def test_replayed_steps_are_exact_for_one_degree_more(name: str) -> None:
    solver = solver_of(20, name, end=0.05)
    log_snr = [node.log_snr for node in solver.nodes]
    generator = torch.Generator().manual_seed(0)
    curve = torch.randn(4, 2, *SHAPE, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64)

    def cubic(x: Tensor, step: int) -> Tensor:
        return sum((curve[k] * log_snr[step] ** k for k in range(1, 4)), curve[0])

    plain = sample(solver, cubic, noise)
    corrected = sample(solver, cubic, noise, Uniform(every=3, order=2, correct=True))
    extrapolated = sample(solver, cubic, noise, Uniform(every=3, order=2))
    torch.testing.assert_close(corrected.x, plain.x)
    assert (extrapolated.x - plain.x).abs().max() > 1e-3


def test_less_tolerance_costs_more_and_errs_less() -> None:
    solver, denoise, noise = problem(50)
    plain = sample(solver, denoise, noise)
    costs, errors = [], []
    for tolerance in (1e-2, 1e-4, 1e-6):
        result = sample(solver, denoise, noise, Auto(tolerance=tolerance))
        costs.append(sum(result.stats.nfe))
        errors.append(float((result.x - plain.x).square().mean().sqrt()))
    assert costs == sorted(set(costs)) and errors == sorted(errors, reverse=True)
    assert all(error < 10 * tolerance for error, tolerance in zip(errors, (1e-2, 1e-4, 1e-6), strict=True))


def test_each_sample_takes_the_memory_that_guesses_it_best() -> None:
    solver = solver_of(30, "euler", end=0.05)
    log_snr = torch.tensor([node.log_snr for node in solver.nodes], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    slope = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    walk = torch.randn(30, *SHAPE, generator=generator, dtype=torch.float64).cumsum(0)

    class Kept(Auto):
        def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Any:
            runs.append(super().begin(solver, shape, seams=seams))
            return runs[-1]

    runs: list[Any] = []
    noise = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64)
    sample(solver, lambda x, step: torch.stack([slope * log_snr[step], walk[step]]), noise, Kept(memories=(0.1, 10.0)))
    assert runs[0].memories == [10.0, 0.1]


def test_what_auto_is_given_is_checked() -> None:
    with pytest.raises(ValueError, match=r"Auto.memories must be.*\(0.3, 0.0\)"):
        Auto(memories=(0.3, 0.0))
    with pytest.raises(ValueError, match="Auto.memories"):
        Auto(memories=())
    with pytest.raises(ValueError, match="Auto.nodes must be at least 1, got 0"):
        Auto(nodes=0)


@pytest.mark.parametrize("steps", [25, 50])
@pytest.mark.parametrize("speedup", [1.4, 2.0, 2.5])
def test_a_budget_is_kept_and_well_spent(steps: int, speedup: float) -> None:
    solver, denoise, noise = problem(steps)
    plain = sample(solver, denoise, noise)
    budget = steps / speedup
    result = sample(solver, denoise, noise, Auto(budget=budget))
    assert all(budget - 2 < nfe <= budget + 1 for nfe in result.stats.nfe)
    again = sample(solver, denoise, noise, Auto(speedup=speedup, tolerance=0.1))
    assert all(budget - 2 < nfe <= budget + 1 for nfe in again.stats.nfe)
    coarse = sample(*problem(round(budget)))
    error, rival = ((one.x - plain.x)[:-1].square().mean() for one in (result, coarse))  # the last one wiggles
    assert error < rival / 10


def test_a_budget_beyond_the_steps_skips_nothing_and_one_out_of_reach_is_refused() -> None:
    solver, denoise, noise = problem(30)
    assert torch.equal(sample(solver, denoise, noise, Auto(budget=30)).x, sample(solver, denoise, noise).x)
    with pytest.raises(ValueError, match="at least 8 of 30 evaluations, asked for 7.5.*lower speedup"):
        sample(solver, denoise, noise, Auto(speedup=4.0))
    with pytest.raises(ValueError, match="not both: 2.0 and 20"):
        Auto(speedup=2.0, budget=20)
    with pytest.raises(ValueError, match="Auto.speedup must be at least 1, got 0.5"):
        Auto(speedup=0.5)


def test_uniform_extrapolation_is_exact_on_its_own_polynomials() -> None:
    solver = solver_of(20, "euler", end=0.05)
    log_snr = [node.log_snr for node in solver.nodes]
    generator = torch.Generator().manual_seed(0)
    curve = torch.randn(3, 1, *SHAPE, generator=generator, dtype=torch.float64)
    noise = torch.randn(1, *SHAPE, generator=generator, dtype=torch.float64)

    def quadratic(x: Tensor, step: int) -> Tensor:
        return curve[0] + curve[1] * log_snr[step] + curve[2] * log_snr[step] ** 2

    plain, skipping = sample(solver, quadratic, noise), sample(solver, quadratic, noise, Uniform(every=3, order=2))
    assert skipping.stats.nfe[0] == 10
    torch.testing.assert_close(skipping.x, plain.x)
    linear = sample(solver, quadratic, noise, Uniform(every=3, order=1))
    assert (linear.x - plain.x).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("accelerator", "steps", "needed"),
    [
        ("sada", 12, 13),
        ("sada", 1, 13),
        ("sada-released", 12, 13),
        ("uniform", 4, 5),
        ("auto", 4, 5),
        ("adaptive-diffusion", 4, 5),
        ("easycache", 3, 4),
        ("seacache", 2, 3),
    ],
)
def test_too_few_steps_are_refused_with_the_number_needed(accelerator: str, steps: int, needed: int) -> None:
    solver, denoise, noise = problem(steps)
    with pytest.raises(ValueError, match=rf"at least {needed}\b.* accelerator=None \(--accelerate none\)"):
        sample(solver, denoise, noise, accelerator)
    assert denoise.calls == []
    solver, denoise, noise = problem(needed)
    sample(solver, denoise, noise, accelerator)


@pytest.mark.parametrize(
    "fields",
    [
        {"start": 0.6},
        {"end": 1.2},
        {"weights": (1.0,)},
        {"max_skips": 0},
        {"interval": 1},
        {"terms": 1},
        {"token_cell": 0},
        {"token_depth": -1},
        {"token_memory": -1},
        {"token_keys": "stale"},
    ],
)
def test_settings_are_validated_by_name(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        SADA(**fields)  # type: ignore[arg-type]


def test_replay_is_refused_where_a_solver_draws_noise() -> None:
    solver, denoise, noise = problem(20)
    noisy = make_solver("euler-ancestral", solver.grid, noise=SeededNoise((0, 1, 2)))
    assert torch.isfinite(sample(noisy, denoise, noise, Uniform()).x).all()
    for accelerator in (Uniform(correct=True), Auto()):
        with pytest.raises(ValueError, match="EulerAncestral cannot be replayed"):
            sample(noisy, denoise, noise, accelerator)


def test_unknown_accelerators_list_the_known() -> None:
    with pytest.raises(ValueError, match="'warp'.*sada.*uniform"):
        make_accelerator("warp")


def test_nan_names_step_and_samples() -> None:
    solver, denoise, noise = problem(20)

    def broken(x: Tensor, step: int) -> Tensor:
        answer = denoise(x, step)
        return answer.index_fill(0, torch.tensor([1]), torch.nan) if step == 7 else answer

    with pytest.raises(FloatingPointError, match=r"step 7 of 20.*samples \[1\]"):
        sample(solver, broken, noise)


def test_wrong_shapes_are_named() -> None:
    solver, _, noise = problem(5)
    with pytest.raises(ValueError, match=r"step 0.*\(3, 2, 6, 3\).*\(3, 2, 6, 6\)"):
        sample(solver, lambda x, step: x[..., :3], noise)


def test_observers_see_every_step() -> None:
    solver, denoise, noise = problem(50)
    seen: list[tuple[int, tuple[Mode, ...]]] = []
    result = sample(solver, denoise, noise, "sada", observer=lambda step: seen.append((step.index, step.modes)))
    assert [index for index, _ in seen] == list(range(50))
    assert [[modes[row].value for _, modes in seen] for row in range(3)] == result.stats.modes
