"""The contents of a trace, against the run repeated by hand, and its figure."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sadaflow import SADA, Auto, Pipeline, Uniform, sample
from sadaflow.accelerators import Accelerator, ReleasedSADA
from sadaflow.models import Seam, Site
from sadaflow.solvers import Grid, RectifiedFlow, Solver, make_solver

SHAPE, STEPS = (2, 6, 6), 40


def flow(name: str = "euler") -> Solver:
    return make_solver(name, Grid.from_t(RectifiedFlow(), torch.linspace(0.999, 0, STEPS + 1, dtype=torch.float64)))


class Normals:
    """Exact x0 for positions that are independent normals, and a slow swing of the right half, which settles SADA."""

    def __init__(self, solver: Solver, mean: Tensor) -> None:
        self.nodes, self.mean = solver.nodes, mean
        self.variance = torch.linspace(0.05, 1, 36, dtype=torch.float64).view(6, 6) ** 2

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.answer(x, step, range(x.shape[0]))

    def answer(self, x: Tensor, step: int, rows: Sequence[int]) -> Tensor:
        node, mean = self.nodes[step], self.mean[list(rows)]
        gain = node.alpha * self.variance / (node.alpha**2 * self.variance + node.sigma**2)
        swing = 0.01 * math.sin(0.6 * step) * (torch.arange(6) > 2)
        return mean + gain * (x - node.alpha * mean) + swing

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        """The same through one block, whose tokens a seam can prune."""
        tokens = self.answer(x, step, rows).flatten(2).transpose(1, 2)
        tokens = seam(Site("block", "only", 0, (6, 6)), lambda hidden: hidden, tokens)
        return tokens.transpose(1, 2).unflatten(2, (6, 6))


def problem(name: str = "euler", rows: Sequence[int] = (0, 1, 2)) -> tuple[Solver, Normals, Tensor]:
    generator = torch.Generator().manual_seed(11)
    mean, noise = torch.randn(2, 3, *SHAPE, generator=generator, dtype=torch.float64)
    solver, index = flow(name), list(rows)
    return solver, Normals(solver, mean[index]), noise[index]


ACCELERATORS = [None, SADA(), ReleasedSADA(), Uniform(), Auto()]


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_a_trace_changes_no_result_and_is_off_unless_asked_for(accelerator: Accelerator | None) -> None:
    solver, denoise, noise = problem()
    off, on = (sample(solver, denoise, noise, accelerator, trace=trace) for trace in (False, True))
    assert off.trace is None and on.trace is not None
    assert torch.equal(off.x, on.x) and off.stats.modes == on.stats.modes and off.stats.nfe == on.stats.nfe
    assert [list(modes) for modes in on.trace.modes] == on.stats.modes


@pytest.mark.parametrize("accelerator", [SADA(tokens=False), ReleasedSADA(), Uniform()])
def test_the_trajectory_replays_from_the_schedule_and_the_denoiser_alone(accelerator: Accelerator) -> None:
    solver, denoise, noise = problem()
    done = sample(solver, denoise, noise, accelerator, trace=True)
    trace = done.trace
    assert trace is not None and trace.x.shape == trace.x0.shape == trace.y.shape == (3, STEPS, *SHAPE)
    times = torch.linspace(0.999, 0, STEPS + 1, dtype=torch.float64)
    assert trace.t.tolist() == trace.sigma.tolist() == times[:-1].tolist()
    torch.testing.assert_close(trace.timestep, 1000 * times[:-1])
    torch.testing.assert_close(trace.log_snr, torch.log((1 - times[:-1]) / times[:-1]))
    x, evaluated = noise * 0.999, 0
    for step in range(STEPS):
        # Not bit for bit: eps = (x - alpha x0) / sigma and a step of Euler along it, written as in the textbook.
        torch.testing.assert_close(trace.x[:, step], x, rtol=1e-11, atol=1e-11)
        x0, eps = trace.x0[:, step], (x - (1 - times[step]) * trace.x0[:, step]) / times[step]
        torch.testing.assert_close(trace.y[:, step], eps - x0, rtol=1e-9, atol=1e-9)
        x = x + (times[step + 1] - times[step]) * (eps - x0)
        full = [row for row in range(3) if trace.modes[row][step] == "full"]
        assert torch.equal(trace.x0[full, step], denoise(trace.x[:, step], step)[full])
        evaluated += len(full)
    torch.testing.assert_close(done.x, x, rtol=1e-11, atol=1e-11)
    assert evaluated == sum(done.stats.nfe) < 3 * STEPS


def test_the_criterion_is_the_papers_and_decides_the_modes() -> None:
    solver, denoise, noise = problem()
    trace = sample(solver, denoise, noise, SADA(), trace=True).trace
    assert trace is not None and (trace.criterion_name, trace.threshold) == ("stability criterion", 0.0)
    first, multistep = round(0.2 * STEPS), round(0.48 * STEPS)
    decided = [step for step in range(STEPS) if not bool(trace.criterion[:, step].isnan().any())]
    assert decided == list(range(first, multistep))
    assert bool(trace.criterion[:, [step for step in range(STEPS) if step not in decided]].isnan().all())
    for step in decided:
        y = [trace.y[:, step - k] for k in (1, 2, 3)]
        guess = trace.x[:, step - 1] + (trace.t[step] - trace.t[step - 1]) * (5 * y[0] + 5 * y[1] - 4 * y[2]) / 6
        value = ((trace.x[:, step] - guess) * (y[0] - 2 * y[1] + y[2])).mean(dim=(1, 2, 3))
        torch.testing.assert_close(trace.criterion[:, step], value, rtol=1e-8, atol=1e-18)
        assert all(trace.modes[row][step] in ("full", "tokens") for row in range(3) if value[row] > 0)
    skipped = torch.tensor([[mode == "stepwise" for mode in modes] for modes in trace.modes])
    assert bool(skipped.any()) and bool((trace.criterion[skipped] < 0).all())


def test_the_predicted_error_of_auto_is_below_the_tolerance_where_it_skips() -> None:
    solver, denoise, noise = problem("dpmpp2m")
    trace = sample(solver, denoise, noise, Auto(tolerance=1e-3, max_skips=30), trace=True).trace
    assert trace is not None and (trace.criterion_name, trace.threshold) == ("predicted error", 1e-3)
    skipped = torch.tensor([[mode == "extrapolated" for mode in modes] for modes in trace.modes])
    known = ~trace.criterion.isnan()
    assert bool(skipped.any()) and bool((known | ~skipped).all()), "every skipped step was decided by its prediction"
    assert bool((trace.criterion[skipped] <= 1e-3).all()) and bool((trace.criterion[known & ~skipped] > 1e-3).all())
    assert bool((known & ~skipped).any())


def test_a_sample_has_the_same_trace_alone_and_in_a_batch() -> None:
    together = sample(*problem(), SADA(), trace=True).trace
    assert together is not None and len(set(together.modes)) == 3, "the samples should all decide differently"
    for row in range(3):
        alone = sample(*problem(rows=[row]), SADA(), trace=True).trace
        assert alone is not None and alone.modes[0] == together.modes[row]
        for name in ("x", "x0", "y", "criterion"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[row], equal_nan=True)
        for one, among in zip(alone.tokens[0], together.tokens[row], strict=True):
            assert (one is None) == (among is None) and (one is None or torch.equal(one, among))


def test_token_masks_are_where_the_network_answered_anew() -> None:
    solver, denoise, noise = problem()
    trace = sample(solver, denoise, noise, SADA(), trace=True).trace
    assert trace is not None
    pruned = [(row, step) for row in range(3) for step in range(STEPS) if trace.modes[row][step] == "tokens"]
    masked = [(row, step) for row in range(3) for step in range(STEPS) if trace.tokens[row][step] is not None]
    assert pruned == masked and pruned
    shares = set()
    for row, step in pruned:
        mask, fresh = trace.tokens[row][step], denoise(trace.x[:, step], step)[row]
        assert mask is not None and mask.shape == (6, 6) and mask.dtype == torch.bool
        assert torch.equal((trace.x0[row, step] == fresh).all(dim=0), mask)
        shares.add(int(mask.sum()))
    assert min(shares) < 36


def test_seconds_are_those_of_the_network_and_of_the_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that goes on by itself in the denoiser alone, only evaluations take time."""
    now = [0.0]
    monkeypatch.setattr("sadaflow.device.timing.perf_counter", lambda: now[0])
    solver, denoise, noise = problem(rows=[0])

    def slow(x: Tensor, step: int) -> Tensor:
        now[0] += 1 + step
        return denoise(x, step)

    done = sample(solver, slow, noise, SADA(tokens=False), trace=True)
    assert done.trace is not None and done.stats.seconds == now[0]
    wanted = [1.0 + step if mode == "full" else 0.0 for step, mode in enumerate(done.stats.modes[0])]
    assert done.trace.network_seconds.tolist() == wanted
    assert done.trace.controller_seconds.tolist() == [0.0] * STEPS


def test_the_error_against_another_run_is_relative_to_it() -> None:
    solver, denoise, noise = problem()
    plain = sample(solver, denoise, noise, trace=True).trace
    fast = sample(solver, denoise, noise, SADA(), trace=True).trace
    assert plain is not None and fast is not None
    error = fast.x0_error(plain)
    assert error.shape == (3, STEPS) and bool((error[:, : round(0.2 * STEPS)] == 0).all())
    wanted = math.dist(fast.x0[2, 30].flatten().tolist(), plain.x0[2, 30].flatten().tolist())
    assert float(error[2, 30]) == pytest.approx(wanted / math.hypot(*plain.x0[2, 30].flatten().tolist())) and wanted > 0
    few = Grid.from_t(RectifiedFlow(), torch.linspace(0.9, 0, STEPS + 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="other times"):
        fast.x0_error(sample(make_solver("euler", few), lambda x, step: x, noise, trace=True).trace)  # type: ignore[arg-type]


def test_a_pipeline_hands_its_trace_out() -> None:
    pipe = Pipeline.from_pretrained()
    call = {"steps": 15, "solver": "euler", "guidance": 5.0, "output": "latent", "progress": False}
    out = pipe(["hot dog", "red apple"], seed=[1, 2], accelerator="sada", trace=True, **call)  # type: ignore[arg-type]
    trace = out.trace
    assert trace is not None and [list(modes) for modes in trace.modes] == out.stats.modes
    assert trace.x.shape == (2, 15, *out.latents.shape[1:])
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)  # float32, as published
    torch.testing.assert_close(trace.log_snr.float(), torch.log(alphas / (1 - alphas))[trace.timestep.long()] / 2)
    assert pipe("hot dog", **{**call, "steps": 1}).trace is None  # type: ignore[arg-type]
