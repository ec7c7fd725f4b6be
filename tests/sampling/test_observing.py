"""Observers see every step, edit x0 and states, and stop runs; what they leave alone stays to the bit."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import STOP, Edit, Sampled, Step, sample
from sadaflow.sampling.observing import Observer, Reply
from sadaflow.solvers import Adaptive, RectifiedFlow, SeededNoise, Solver, make_solver
from sadaflow.solvers.checks.problems import GRIDS, clean, mixture, unit_noise

SOLVERS = ("euler", "dpmpp2m", "unipc", "heun", "ab3", "res_3s", "plms", "euler-ancestral", "seeds_2")
STEPS, AT = 12, 5


def solver_of(name: str) -> Solver:
    return make_solver(name, clean(GRIDS["flow-shifted"](STEPS)), **noise_of(name))


def noise_of(name: str) -> dict[str, Any]:
    return {"noise": SeededNoise((1, 2, 3))} if name in ("euler-ancestral", "seeds_2") else {}


def run(solver: Solver, observer: Observer | None = None, **how: Any) -> Sampled:
    return sample(solver, mixture().denoiser(solver), unit_noise(3), observer=observer, **how)


def at(index: int, reply: Callable[[Step], Reply]) -> Observer:
    """An observer that replies at one step."""
    return lambda step: reply(step) if step.index == index else None


def by_hand(
    solver: Solver, edit_x0: Callable[[int, Tensor], Tensor], edit_x: Callable[[int, Tensor], Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The loop of docs/solvers.md with edits: the final x, and all x0 used."""
    from dataclasses import replace

    state, used = solver.start(unit_noise(3)), []
    denoise = mixture().denoiser(solver)
    while state.step < solver.n_evals:
        step = state.step
        used.append(edit_x0(step, denoise(state.x, step)))
        state = solver.step(state, used[-1])
        state = replace(state, x=edit_x(step, state.x))
    return state.x, used


def moved(index: int, by: float, rows: Sequence[int] = (1,)) -> Callable[[int, Tensor], Tensor]:
    def edit(step: int, value: Tensor) -> Tensor:
        shift = torch.zeros_like(value)
        shift[list(rows)] = by * (step == index)
        return value + shift

    return edit


def same(step: int, value: Tensor) -> Tensor:
    return value


@pytest.mark.parametrize("name", SOLVERS)
def test_watching_changes_nothing_and_shows_the_next_states(name: str) -> None:
    seen: list[Step] = []
    watched, plain = run(solver_of(name), lambda step: seen.append(step)), run(solver_of(name))
    assert torch.equal(watched.x, plain.x) and watched.stats.stopped_after is None
    assert len(seen) == solver_of(name).n_evals
    for step, following in zip(seen, [*[step.x for step in seen[1:]], watched.x], strict=True):
        assert step.x_next is not None and torch.equal(step.x_next, following)


@pytest.mark.parametrize("name", SOLVERS)
def test_an_edited_x0_is_what_the_solver_steps_from(name: str) -> None:
    edit = moved(AT, 0.3)
    expected, _ = by_hand(solver_of(name), edit, same)
    found = run(solver_of(name), at(AT, lambda step: Edit(x0=edit(AT, step.x0))))
    assert torch.equal(found.x, expected)
    usual = run(solver_of(name)).x
    assert torch.equal(found.x[[0, 2]], usual[[0, 2]]) and not torch.equal(found.x, usual)


@pytest.mark.parametrize("name", SOLVERS)
def test_edited_states_are_where_the_network_is_evaluated_next(name: str) -> None:
    edit = moved(AT, 0.2)
    expected, _ = by_hand(solver_of(name), same, edit)
    found = run(solver_of(name), at(AT, lambda step: Edit(x=edit(AT, _next(step)))))
    assert torch.equal(found.x, expected)
    assert torch.equal(found.x[[0, 2]], run(solver_of(name)).x[[0, 2]])


def test_both_may_be_edited_and_the_states_have_the_last_word() -> None:
    solver = solver_of("dpmpp2m")
    x0, x = moved(AT, 0.3), moved(AT, -0.4, (0, 1))
    observed: list[Tensor] = []

    def observer(step: Step) -> Reply:
        if step.index == AT:
            return Edit(x0=x0(AT, step.x0), x=x(AT, _next(step)))
        if step.index == AT + 1:
            observed.append(step.x)
        return None

    found = run(solver, observer)
    target = run(solver, at(AT, lambda step: (observed.append(_next(step)), None)[1])).x  # type: ignore[func-returns-value]
    assert torch.equal(observed[0], x(AT, observed[1])) and torch.equal(found.x[2], target[2])


def test_the_last_step_may_be_edited() -> None:
    solver = solver_of("dpmpp2m")
    found = run(solver, at(solver.n_evals - 1, lambda step: Edit(x0=step.x0 + 1)))
    torch.testing.assert_close(found.x, run(solver).x + 1)


def test_a_trace_holds_the_edited_x0() -> None:
    solver, edit = solver_of("unipc"), moved(AT, 0.3)
    _, used = by_hand(solver, edit, same)
    trace = run(solver, at(AT, lambda step: Edit(x0=edit(AT, step.x0))), trace=True).trace
    assert trace is not None and torch.equal(trace.x0, torch.stack(used, 1))
    assert torch.equal(trace.y[:, AT], solver.velocity(trace.x[:, AT], trace.x0[:, AT], AT))


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_stop_ends_the_run_with_the_last_x0(name: str) -> None:
    solver, plain = solver_of(name), run(solver_of(name), trace=True)
    found = run(solver, lambda step: STOP if step.index == AT else None, trace=True)
    assert plain.trace is not None and found.trace is not None
    assert torch.equal(found.x, plain.trace.x0[:, AT])
    assert found.stats.stopped_after == AT + 1 and found.stats.nfe == [AT + 1.0] * 3
    assert [len(row) for row in found.stats.modes] == [AT + 1] * 3
    for name_of in ("x0", "criterion", "t", "network_seconds", "log_snr"):
        part, whole = getattr(found.trace, name_of), getattr(plain.trace, name_of)
        assert part.shape[:2][-1] == AT + 1 or part.shape[0] == AT + 1
        if name_of in ("x0", "t", "log_snr"):
            along = whole[:, : AT + 1] if whole.dim() > 1 else whole[: AT + 1]
            assert torch.equal(part, along)


def test_what_an_observer_raises_is_passed_on() -> None:
    class OwnError(Exception):
        pass

    error = OwnError("mine")

    def observer(step: Step) -> Reply:
        raise error

    with pytest.raises(OwnError) as caught:
        run(solver_of("euler"), observer)
    assert caught.value is error


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda step: step.x0, "returned a Tensor at step 0 of 12 .t=.*: return None to go on, Edit.x0=..., x=...."),
        (lambda step: True, "returned a bool at step 0 of 12"),
        (lambda step: Edit(x0=step.x0[:1]), r"Edit.x0 at step 0 of 12 .* has shape \(1, 2\), expected .* \(3, 2\)"),
        (lambda step: Edit(x=step.x.float()), "Edit.x at step 0 .* is torch.float32 on cpu, expected torch.float64"),
        (lambda step: Edit(x=step.x.tolist()), r"Edit.x at step 0 .* is a list, expected a tensor \(3, 2\)"),
        (lambda step: Edit(x0=step.x0 / torch.tensor([[1.0], [0.0], [1.0]])), r"Edit.x0 .* infinity for samples \[1\]"),
    ],
)
def test_replies_that_do_not_fit_are_refused(reply: Callable[[Step], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(solver_of("euler"), reply)


def test_an_observer_may_compute_gradients_through_the_network() -> None:
    """Guidance by a loss: x0 is pulled towards a point; torch.enable_grad works inside the run."""
    solver, target = solver_of("dpmpp2m"), mixture().means[0]
    denoise = mixture().denoiser(solver)

    def toward(step: Step) -> Reply:
        with torch.enable_grad():
            x = step.x.detach().requires_grad_()
            loss = (denoise(x, step.index) - target).square().sum()
            (gradient,) = torch.autograd.grad(loss, x)
        return Edit(x=_next(step) - 0.3 * gradient)

    plain, guided = run(solver).x, run(solver, toward).x
    assert not guided.requires_grad
    assert float((guided - target).norm(dim=1).mean()) < 0.5 * float((plain - target).norm(dim=1).mean())


def test_adaptive_runs_take_edits_of_x0_and_stop() -> None:
    solver = Adaptive(RectifiedFlow(), 1.0, 0.05, rtol=1e-3, atol=1e-3)
    data = mixture()

    def denoise(x: Tensor, node: Any) -> Tensor:
        return data.x0(x, node.alpha, node.sigma)

    def adaptive(observer: Observer | None) -> Sampled:
        return sample(solver, denoise, unit_noise(3), observer=observer)  # type: ignore[arg-type]

    shift = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
    expected = solver.solve(lambda x, node: denoise(x, node) + shift, unit_noise(3)).x
    assert torch.equal(adaptive(lambda step: Edit(x0=step.x0 + shift)).x, expected)
    stopped = adaptive(lambda step: STOP if step.index == 4 else None)
    assert stopped.stats.stopped_after == 5 and [len(row) for row in stopped.stats.modes] == [5] * 3
    with pytest.raises(ValueError, match="Edit.x at evaluation 0: an adaptive solver chooses its own states"):
        adaptive(lambda step: Edit(x=step.x))
    assert adaptive(lambda step: None).stats.stopped_after is None


def _next(step: Step) -> Tensor:
    assert step.x_next is not None
    return step.x_next
