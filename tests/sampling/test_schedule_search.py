"""The search of schedules: its costs against predictions made with tensors, its path against all sets, its course."""

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sadaflow import sample
from sadaflow.accelerators import Schedule
from sadaflow.accelerators.predictors import PREDICTORS
from sadaflow.accelerators.steps.searched import Searched
from sadaflow.checks.networks import Plain as Exact
from sadaflow.checks.problems import Modes
from sadaflow.checks.runs import solver_of
from sadaflow.sampling.best_path import best_path, moved, triple_costs
from sadaflow.sampling.gap_costs import NO_STEP, GapCosts, inner_products, outputs_of
from sadaflow.sampling.results import Step
from sadaflow.sampling.schedule_search import SearchEffort, mask_text, sample_plainly, search_schedule
from sadaflow.solvers import Solver

STEPS, SHAPE = 10, (1, 3, 3)


def noise_of(count: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def batches_of(solver: Solver, calls: list[int] | None = None, kind: str = "flow") -> Any:
    """Two samples to a batch, the denoisers counted in `calls`."""

    def batches(count: int) -> Iterator[tuple[Any, Tensor]]:
        data = Modes.drawn(count, SHAPE)
        for first in range(0, count, 2):
            rows = range(first, min(first + 2, count))
            exact = Exact(solver, data.of(rows), kind)

            def denoise(x: Tensor, step: int, exact: Exact = exact) -> Tensor:
                if calls is not None:
                    calls.append(step)
                return exact(x, step)

            yield denoise, noise_of(count)[list(rows)]

    return batches


def trajectory(solver: Solver, samples: int) -> tuple[Tensor, Tensor]:
    seen: list[Step] = []
    (denoise, _), *_ = batches_of(solver)(2)
    data = Exact(solver, Modes.drawn(samples, SHAPE), "flow")
    sample(solver, data, noise_of(samples), observer=seen.append)
    return torch.stack([step.x for step in seen]), torch.stack([step.x0 for step in seen])


@pytest.mark.parametrize(("predictor", "variable"), [("linear", "x0"), ("kriging", "eps"), ("hermite", "x0")])
@pytest.mark.parametrize("correct", [False, True])
def test_a_gap_costs_what_its_predictions_err(predictor: str, variable: str, correct: bool) -> None:
    """Evaluations at 0, 1, 3 and 7; the gap is 4, 5, 6. Errors are taken of tensors, not of inner products."""
    solver = solver_of("euler", STEPS)
    values = outputs_of(solver, variable, *trajectory(solver, 1))
    rng = np.random.default_rng(1)
    gains = rng.random(STEPS) + 0.5
    how: dict[str, Any] = {"correct": correct, "variable": variable, "gains": gains}
    costs = GapCosts.of(solver, inner_products(values), predictor, **how)
    rule = PREDICTORS[predictor]
    nodes = [3, 1, 0][: rule.nodes]

    def error(weights: Any, nodes: list[int], step: int) -> float:
        found = weights(np.array([costs.at[node] for node in nodes]), costs.at[step])
        predicted = sum(float(w) * values[node, 0] for w, node in zip(found, nodes, strict=True))
        return float((predicted - values[step, 0]).square().mean().sqrt())

    slope = {"x0": lambda node: 1.0, "eps": lambda node: node.sigma / node.alpha}[variable]
    weight = {step: gains[step] * slope(solver.nodes[step]) for step in (4, 5, 6)}
    ahead = sum(weight[step] * error(rule.weights, nodes, step) for step in weight)
    expected = ahead
    if correct:
        between = sum(weight[step] * error(rule.between, [7, 3, 1, 0][: rule.nodes + 1], step) for step in weight)
        expected = ahead * sum(weight.values()) + between
    table = np.array([[3, 1, 0, NO_STEP][: rule.nodes + 1], [8, 7, 6, 5][: rule.nodes + 1]])
    assert costs.gaps(table, np.array([7, 9])) == pytest.approx([expected, 0.0], rel=1e-6)
    whole = costs.cost(np.array([0, 1, 3, 7, 8, 9]))
    parts = costs.gaps(np.array([[1, 0, NO_STEP, NO_STEP][: rule.nodes + 1]]), np.array([3]))
    assert whole == pytest.approx(expected**2 + parts[0] ** 2, rel=1e-6)


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("evaluations", [4, 6])
def test_the_path_is_the_best_of_all_sets(first: int, evaluations: int) -> None:
    costs = np.random.default_rng(evaluations).random((STEPS + 1, STEPS, STEPS)) ** 3
    before, last, following = np.indices(costs.shape)
    costs[(last >= following) | ((before >= last) & (before < STEPS))] = np.inf

    def total(chosen: tuple[int, ...]) -> float:
        before = (STEPS, *chosen)
        return sum(costs[before[i], chosen[i], chosen[i + 1]] for i in range(len(chosen) - 1))

    fixed = (*range(first), STEPS - 1)
    free = [step for step in range(STEPS) if step not in fixed]
    sets = [tuple(sorted((*fixed, *more))) for more in combinations(free, evaluations - len(fixed))]
    assert best_path(costs, evaluations, first).tolist() == list(min(sets, key=total))


def test_gaps_are_bounded_and_what_is_impossible_is_refused() -> None:
    solver = solver_of("euler", STEPS)
    products = inner_products(trajectory(solver, 3)[1])
    costs = triple_costs(GapCosts.of(solver, products, "linear", correct=False), max_skips=2)
    assert np.isfinite(costs[0, 1]).tolist() == [step in (2, 3, 4) for step in range(STEPS)]
    assert np.isfinite(costs[STEPS, 0]).tolist() == [step in (1, 2, 3) for step in range(STEPS)]
    assert not np.isfinite(costs[3, 2]).any()
    path = best_path(costs, 5)
    assert path[0] == 0 and path[-1] == STEPS - 1 and max(np.diff(path)) <= 3
    for wrong in (3, STEPS + 1):
        with pytest.raises(ValueError, match=f"no set of {wrong} of 10 steps is possible"):
            best_path(costs, wrong)
    assert best_path(costs, STEPS).tolist() == list(range(STEPS))


def test_moves_keep_the_number_the_first_and_the_last() -> None:
    found = {tuple(other.tolist()) for other in moved(np.array([0, 2, 7, 9]), STEPS, 1, reach=2)}
    assert found == {(0, 1, 7, 9), (0, 3, 7, 9), (0, 4, 7, 9), (0, 2, 5, 9), (0, 2, 6, 9), (0, 2, 8, 9)}


def searched(solver: Solver, calls: list[int] | None = None, **how: Any) -> Searched:
    plain = sample_plainly(solver, batches_of(solver, calls), 3)
    wanted = Schedule(predictor="linear", correct=how.pop("correct", False))
    return search_schedule(plain, 5, wanted, **how)


def test_the_search_finds_the_best_of_all_sets_on_a_small_problem() -> None:
    solver = solver_of("euler", STEPS)
    found = searched(solver, effort=SearchEffort(samples=3, tries=200, batch=2))
    plain = sample_plainly(solver, batches_of(solver), 3)
    losses = {}
    for more in combinations(range(1, STEPS - 1), 3):
        mask = mask_text(np.array([0, *more, STEPS - 1]), STEPS)
        errors = [
            float((sample(solver, denoise, noise, Schedule(mask)).x[row] - end[row]).square().mean().log10())
            for denoise, noise, end in plain.parts
            for row in range(len(noise))
        ]
        losses[mask] = sum(errors) / 3
    assert found.mask in sorted(losses, key=losses.__getitem__)[:3]
    assert found.loss == pytest.approx(losses[found.mask], abs=1e-9) and found.loss == min(found.tried.values())
    assert found.mask.count("1") == 5 and len(found.tried) < len(losses)


def test_a_search_goes_on_from_what_was_tried() -> None:
    solver, kept = solver_of("euler", STEPS), list[Searched]()
    whole = searched(solver, effort=SearchEffort(tries=12), keep=kept.append)
    assert len(kept) == len(whole.tried) == 12 and kept[-1] == whole
    calls: list[int] = []
    again = searched(solver, calls, effort=SearchEffort(tries=12), tried=kept[6].tried)
    assert again == whole
    assert len(calls) == 2 * STEPS + 2 * 5 * (12 - len(kept[6].tried))  # the plain runs, and what was left


def test_solvers_that_draw_noise_and_efforts_of_nothing_are_refused() -> None:
    solver = solver_of("dpmpp2m-sde", STEPS)
    with pytest.raises(ValueError, match="draws noise: a schedule is searched with a solver without"):
        sample_plainly(solver, batches_of(solver), 2)
    for name in ("samples", "tries", "batch", "max_skips"):
        assert getattr(SearchEffort(**{name: 1}), name) == 1
        with pytest.raises(ValueError, match=f"{name} of a search must be at least 1, got 0"):
            SearchEffort(**{name: 0})
    assert math.isfinite(searched(solver_of("euler", STEPS), effort=SearchEffort(tries=1)).loss)
