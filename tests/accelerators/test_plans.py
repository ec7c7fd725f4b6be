"""Plans of `auto`: the fitted multistep method, the choice between plans, and runs that follow them."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sadaflow import Auto, sample
from sadaflow.accelerators.auto.linear_states import linear_states
from sadaflow.accelerators.auto.planned import PlannedRun
from sadaflow.accelerators.auto.plans import Fork, Plan, shares
from sadaflow.accelerators.base import Run
from sadaflow.accelerators.fitting import require_falling_times, require_steps
from sadaflow.accelerators.replay import tensors_of
from sadaflow.checks import check_accelerator
from sadaflow.sampling import Edit
from sadaflow.solvers import Solver
from support.gaussians import problem, solver_of

STEPS = 20


def plan_of(values: Any, nodes: tuple[int, ...]) -> Plan:
    """The plan of recorded values (N + 1, M): the first state and x0 at every step."""
    known = values[[0, *[node + 1 for node in nodes]]]
    known = np.concatenate((known[:2], np.diff(known[1:], axis=0)))
    products, targets = known @ known.T / known.shape[1], known @ values[1:].T / known.shape[1]
    return Plan(nodes, tuple(tuple(row[: i + 1]) for i, row in enumerate(products)), tuple(map(tuple, targets)))


def recorded(solver: Solver, denoise: Any, noise: Tensor) -> Any:
    """The first state and x0 at every step of plain runs, (N + 1, M)."""
    trace = sample(solver, denoise, noise, trace=True).trace
    assert trace is not None
    x0 = trace.x0.transpose(0, 1)
    return torch.cat((solver.start(noise).x[None], x0)).flatten(1).double().numpy()


@pytest.mark.parametrize("name", ["euler", "dpmpp3m", "unipc", "deis"])
def test_states_are_the_weighted_sums_of_the_first_one_and_of_x0(name: str) -> None:
    solver = solver_of(8, name, end=0.05)
    generator = torch.Generator().manual_seed(0)
    noise, *x0 = torch.randn(9, 1, 5, generator=generator, dtype=torch.float64)
    state = solver.start(noise)
    values = torch.stack([state.x, *x0])[:, 0].numpy()
    for step, weights in enumerate(linear_states(solver)):
        for tensor, row in zip(tensors_of(state), weights, strict=True):
            assert row @ values == pytest.approx(tensor[0].numpy())
        state = solver.step(state, x0[step]) if step < 8 else state


def test_weights_are_the_least_squares_on_the_recorded_values() -> None:
    values = np.random.default_rng(0).standard_normal((STEPS + 1, 40)).cumsum(axis=0)
    nodes = (0, 4, 9, 15)
    plan = plan_of(values, nodes)
    found = plan.weights()
    for index in range(4):
        known = values[[*[node + 1 for node in nodes[index::-1]], 0]]
        expected = np.linalg.lstsq(known.T, values[1:].T, rcond=None)[0].T
        assert found[index, :, : index + 2] == pytest.approx(expected, abs=1e-3)
        assert not found[index, :, index + 2 :].any()
    before = values[[nodes[1] + 1, nodes[0] + 1, 0]]
    assert plan.forecast(2) == pytest.approx(np.linalg.lstsq(before.T, values[nodes[2] + 1], rcond=None)[0], abs=1e-3)


@pytest.mark.parametrize("name", ["euler", "dpmpp2m", "unipc"])
def test_x0_in_the_span_of_the_evaluated_ones_is_followed_exactly(name: str) -> None:
    solver = solver_of(STEPS, name, end=0.05)
    generator = torch.Generator().manual_seed(1)
    curve = torch.randn(3, 2, 4, 6, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)

    def quadratic(x: Tensor, step: int) -> Tensor:
        return curve[0] + curve[1] * (step / STEPS) + curve[2] * (step / STEPS) ** 2

    plain = sample(solver, quadratic, noise)
    plan = plan_of(recorded(solver, quadratic, noise), (0, 6, 13))
    fast = sample(solver, quadratic, noise, Planned(3.0, (plan,)))
    assert fast.stats.nfe == [3, 3]
    torch.testing.assert_close(fast.x, plain.x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("counts", [(6, 7, 8), (10, 12, 14), (5,), (4, 6)])
def test_the_shares_of_the_plans_have_the_mean_that_is_asked_for(counts: tuple[int, ...]) -> None:
    for mean in np.linspace(counts[0], counts[-1], 9):
        found = shares(counts, mean)
        assert found.sum() == pytest.approx(1) and (found >= 0).all()
        assert found @ counts == pytest.approx(mean)
        assert (found > 0).sum() <= 2
    assert shares((6, 7, 8), 6.25) == pytest.approx([0.75, 0.25, 0])
    assert shares(counts, 99.0)[-1] == 1


def test_a_sample_takes_a_longer_plan_the_worse_its_x0_was_predicted() -> None:
    plans = tuple(plan_of(np.eye(7), nodes) for nodes in ((0, 2), (0, 2, 4), (0, 2, 3, 4)))
    fork = Fork(2, plans, usual=np.log(0.1), deviation=0.5)
    ranks = fork.ranks(np.array([1e-9, 0.1, 0.1 * np.exp(0.5), 1e3]))
    assert ranks == pytest.approx([0, 0.5, 0.8413, 1], abs=1e-4)
    for mean, taken in ((2.4, [0, 0, 1, 1]), (3.0, [1, 1, 1, 1]), (3.4, [1, 1, 2, 2]), (3.9, [1, 2, 2, 2])):
        bounds = shares(fork.counts, mean).cumsum()[:-1]
        assert np.searchsorted(bounds, ranks).tolist() == taken


@dataclass(frozen=True)
class Planned:
    """Follows plans; without any, those that fit Gaussians on the solver's own grid."""

    mean: float = 7.0
    plans: tuple[Plan, ...] = ()

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        require_falling_times(solver, "planned")
        require_steps(solver, "'planned'", 10)
        plans = self.plans or fitted_plans(solver)
        fork = Fork(min(3, len(plans[0].nodes)), plans, usual=-3.0, deviation=1.0)
        return PlannedRun(solver, shape[0], fork, self.mean)


@cache
def fitted_plans(solver: Solver) -> tuple[Plan, ...]:
    _, denoise, noise = problem(4)
    denoise.nodes = solver.nodes
    values, last = recorded(solver, denoise, noise), solver.n_evals - 1
    ends = (np.linspace(0, last, count).round().astype(int)[3:] for count in (6, 7, 8))
    start = tuple(np.linspace(0, last, 8).round().astype(int)[:3].tolist())
    return tuple(plan_of(values, (*start, *end.tolist())) for end in ends)


def test_planned_runs_keep_the_laws_of_accelerators() -> None:
    laws = ("batch invariance", "state", "host reads")
    check_accelerator(Planned, steps=12, laws=laws, solvers=("dpmpp2m",), schedules=("flow",))


def test_an_edited_sample_is_evaluated_from_then_on() -> None:
    solver, denoise, noise = problem(STEPS)
    plan = plan_of(recorded(solver, denoise, noise), (0, 4, 9, 15))

    def observer(step: Any) -> Edit | None:
        return Edit(x=step.x_next + torch.tensor([1.0, 0, 0]).view(3, 1, 1, 1)) if step.index == 10 else None

    found = sample(solver, denoise, noise, Planned(4.0, (plan,)), observer=observer)
    assert found.stats.nfe == [3 + STEPS - 11, 4, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": "0 9 4"}, "must rise from 0"),
        ({"nodes": "1 4 9"}, "must rise from 0"),
        ({"products": ["1.0"]}, "products of 4 values"),
        ({"targets": ["nan " * STEPS] * 4}, "finite"),
    ],
)
def test_malformed_plans_are_refused(change: dict[str, Any], message: str) -> None:
    good = plan_of(np.random.default_rng(0).standard_normal((STEPS + 1, 40)), (0, 4, 9))
    fork = Fork(2, (good,), -1.0, 0.5)
    content = json.loads(json.dumps(fork.to_json()))
    assert Fork.from_json(content) == fork
    content["plans"][0] |= change
    with pytest.raises(ValueError, match=message):
        Fork.from_json(content)


def test_auto_without_plans_says_how_to_get_them() -> None:
    solver, denoise, noise = problem(50)
    with pytest.raises(ValueError, match="at least 12 of 50 evaluations, asked for 6.25.*sadaflow calibrate"):
        sample(solver, denoise, noise, Auto(speedup=8))
