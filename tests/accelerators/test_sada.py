"""SADA and uniform skipping in the sampling loop, on denoisers in closed form."""

import pytest
import torch
from scipy import interpolate
from torch import Tensor

from sadaflow import SADA, Auto, Mode, Uniform, sample
from sadaflow.accelerators import make_accelerator
from sadaflow.solvers import SeededNoise, make_solver
from support.gaussians import SHAPE, problem, restricted, solver_of


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


@pytest.mark.parametrize("cap", [1, 2, 4])
def test_only_the_cap_ends_the_skips_of_two_step_solvers(cap: int) -> None:
    """On even steps the criterion of DPM-Solver++ 2M is 2/3 dt |D^2 y|^2 <= 0: every step is stable (docs/sada.md)."""
    solver, denoise, noise = problem(50, name="dpmpp2m")
    for modes in sample(solver, denoise, noise, SADA(tokens=False, max_skips=cap)).stats.modes:
        assert list(modes[10:24]) == [("full" if (step - 9) % (cap + 1) == 0 else "stepwise") for step in range(10, 24)]


@pytest.mark.parametrize("name", ["euler", "dpmpp2m"])
def test_the_released_code_computes_and_skips_its_fixed_steps(name: str) -> None:
    """Of 50 steps the published settings compute 19 and skip 17 whatever the sample; 11 to 24 are decided."""
    solver, denoise, noise = problem(50, samples=6, name=name)
    for modes in sample(solver, denoise, noise, "sada-released").stats.modes:
        computed = {step for step, mode in enumerate(modes) if mode == "full"}
        always = {*range(11), 25, 29, 33, 37, 41, 45, 48, 49}
        assert always <= computed <= always | set(range(11, 25))
        assert {modes[step] for step in range(11, 25)} <= {"full", "stepwise"}


def test_multistep_x0_of_the_released_code_is_a_polynomial_through_every_fourth_step() -> None:
    solver, denoise, noise = problem(50, name="dpmpp2m")
    trace = sample(solver, denoise, noise, "sada-released", trace=True).trace
    assert trace is not None
    for row, modes in enumerate(trace.modes):
        skipped = [step for step, mode in enumerate(modes) if mode == "multistep"]
        assert len(skipped) == 17
        for step in skipped:
            nodes = [at for at in range(1, step) if at % 4 == 1][-4:]
            values = trace.x0[row, nodes].flatten(1).numpy()
            expected = interpolate.BarycentricInterpolator(nodes, values)(step)
            assert trace.x0[row, step].flatten().numpy() == pytest.approx(expected, rel=1e-9, abs=1e-12)


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
