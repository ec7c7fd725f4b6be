"""The parts of SADA against independent values: estimates, polynomial nodes, token choice, token cache."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from sadaflow.accelerators.auto.kriging import predict
from sadaflow.accelerators.history import NodeBuffer
from sadaflow.accelerators.replay import tensors_of, with_tensors
from sadaflow.accelerators.sada.criterion import (
    extrapolate,
    instability,
    noise_of,
    sample_scores,
    second_difference,
    stepwise_x0,
)
from sadaflow.accelerators.sada.estimators import ab2, paper
from sadaflow.accelerators.sada.token_cache import TokenCache, keep_tokens
from sadaflow.checks.recording import reachable, tensor_bytes
from sadaflow.models import Site
from sadaflow.solvers import State


def _local_error(step: float) -> float:
    """Error of one extrapolated step on x(t) = sin(3 t) exp(t), whose derivative is known, from t = 0.8 down."""
    times = [0.8, 0.8 + step, 0.8 + 2 * step]
    value = [torch.tensor(np.sin(3 * t) * np.exp(t)) for t in (0.8, 0.8 - step)]
    slopes = [torch.tensor(np.exp(t) * (np.sin(3 * t) + 3 * np.cos(3 * t))) for t in times]
    return float((extrapolate(value[0], slopes, -step, paper((), 0.0)) - value[1]).abs())


@pytest.mark.parametrize("at", [0.55, 0.1, -0.2, -0.8])
@pytest.mark.parametrize("memory", [0.15, 0.6, 10.0])
def test_predictions_are_the_best_for_an_ornstein_uhlenbeck_velocity(at: float, memory: float) -> None:
    """Against the normal equations, with covariances of moves integrated numerically from that of the velocity."""
    nodes = (0.3, -0.1, -0.4, -1.0)

    def covariance(one: float, other: float) -> float:  # of the moves from the newest node
        def with_other(u: float) -> float:
            kink = [u] if min(nodes[0], other) < u < max(nodes[0], other) else None
            return quad(lambda v: np.exp(-abs(u - v) / memory), nodes[0], other, points=kink, epsabs=1e-13)[0]

        return float(quad(with_other, nodes[0], one, epsabs=1e-12)[0])

    for count in range(1, 5):
        others = nodes[1:count]
        among = np.array([[covariance(one, other) for other in others] for one in others]).reshape(count - 1, count - 1)
        to = np.array([covariance(one, at) for one in others])
        weights = np.linalg.solve(among, to)
        found = predict(np.array([*nodes[:count], *[np.nan] * (4 - count)]), np.array([at]), memory)
        np.testing.assert_allclose(found.weights[0], [1 - weights.sum(), *weights, *[0] * (4 - count)], atol=1e-6)
        assert found.spread[0] == pytest.approx(np.sqrt(covariance(at, at) - weights @ to), rel=1e-4)


def test_predictors_of_many_samples_and_points_are_those_of_each_alone() -> None:
    random = np.random.default_rng(0)
    nodes, at, memory = -random.random((5, 4)).cumsum(axis=1), random.normal(size=(5, 3)), random.random(5) + 0.1
    nodes[2, 3:] = nodes[4, 1:] = np.nan
    together = predict(nodes, at, memory)
    for row, count in enumerate([4, 4, 3, 4, 1]):
        for k in range(3):
            alone = predict(nodes[row, :count], at[row, k : k + 1], memory[row])
            np.testing.assert_allclose(together.weights[row, k, :count], alone.weights[0], atol=1e-12)
            np.testing.assert_array_equal(together.weights[row, k, count:], 0)
            assert together.spread[row, k] == pytest.approx(alone.spread[0])


def test_a_long_memory_predicts_like_a_natural_spline_and_a_short_memory_holds() -> None:
    nodes, values = np.array([0.3, -0.4, -1.0, -1.9]), np.array([2.0, -1.0, 0.5, 3.0])
    spline = CubicSpline(nodes[::-1], values[::-1], bc_type="natural")

    def weights(at: float, memory: float) -> Any:
        return predict(nodes, np.array([at]), memory).weights[0]

    for at in (-0.1, -0.6, -1.5):
        assert values @ weights(at, 1e3) == pytest.approx(float(spline(at)), abs=2e-2)
    beyond = float(spline(0.3) + spline(0.3, 1) * 0.5)
    assert values @ weights(0.8, 1e3) == pytest.approx(beyond, abs=2e-2)
    np.testing.assert_allclose(weights(0.8, 1e-3), [1, 0, 0, 0], atol=5e-3)
    assert predict(nodes, np.array([-0.4]), 0.3).spread[0] == pytest.approx(0.0, abs=1e-7)


def test_the_papers_extrapolation_is_second_order_consistent() -> None:
    errors = [_local_error(0.005 / 2**k) for k in range(4)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert np.all(np.abs(orders - 3) < 0.2), orders


def test_the_criterion_is_negative_where_the_state_falls_short_of_an_upward_bend() -> None:
    velocities = [torch.full((2, 1, 2, 2), value) for value in (4.0, 1.0, 0.0)]
    assert torch.equal(second_difference(velocities), torch.full((2, 1, 2, 2), 2.0))
    predicted = torch.zeros(2, 1, 2, 2)
    x_next = torch.stack([torch.full((1, 2, 2), -0.5), torch.full((1, 2, 2), 0.5)])
    assert [score < 0 for score in sample_scores(instability(x_next, predicted, velocities)).read()] == [True, False]


def test_after_an_adams_bashforth_step_the_criterion_cannot_vote_against() -> None:
    """docs/sada.md: (x_next - predicted) is then 2/3 dt of the second difference, so its product is never positive."""
    velocities = list(torch.randn(3, 5, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    x, dt = torch.zeros(5, 4, 3, 3, dtype=torch.float64), -0.1
    x_next = extrapolate(x, velocities, dt, ab2((), 0.0))
    scores = instability(x_next, extrapolate(x, velocities, dt, paper((), 0.0)), velocities)
    torch.testing.assert_close(scores, 2 / 3 * dt * second_difference(velocities) ** 2)


def test_the_stepwise_estimate_undoes_the_noising() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(2, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    x = 0.6 * x0 + 0.8 * eps
    torch.testing.assert_close(noise_of(x, x0, 0.6, 0.8), eps)
    torch.testing.assert_close(stepwise_x0(x, eps, 0.6, 0.8), x0)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4, unique_by=lambda t: round(t, 1)), st.floats(-4, 4))
def test_node_buffers_follow_each_samples_own_polynomial(times: list[float], at: float) -> None:
    cubics = np.random.default_rng(0).normal(size=(2, 4))
    buffer = NodeBuffer(4, 2)
    for shift, row in ((0.0, 0), (0.37, 1)):
        buffer.push([row], 99.0, torch.tensor([[1e6]], dtype=torch.float64))
        for t in times:
            buffer.push([row], t + shift, torch.tensor([[np.polyval(cubics[row], t + shift)]]))
    expected = [np.polyval(cubics[row], at) for row in (1, 0)]
    condition = (8 / min(abs(a - b) for i, a in enumerate(times) for b in times[:i])) ** 3
    np.testing.assert_allclose(buffer.at([1, 0], at)[:, 0].numpy(), expected, atol=1e-13 * condition + 1e-9)


def test_samples_that_count_their_nodes_apart_keep_their_own() -> None:
    """Against a dictionary per sample, for pushes of random samples at random times, some of them again."""
    random, buffer = np.random.default_rng(0), NodeBuffer(3, 4)
    kept: list[dict[float, float]] = [{} for _ in range(4)]
    for value in range(40):
        rows, time = np.flatnonzero(random.random(4) < 0.6).tolist(), float(random.integers(12))
        buffer.push(rows, time, torch.full((len(rows), 2), float(value), dtype=torch.float64))
        for row in rows:
            kept[row] = dict(list({time: value, **{t: v for t, v in kept[row].items() if t != time}}.items())[:3])
        for row, nodes in enumerate(kept):
            assert buffer.times[row, : len(nodes)].tolist() == list(nodes) and buffer.counts[row] == len(nodes)
        whole = [row for row, nodes in enumerate(kept) if nodes]
        weights = random.normal(size=(2, len(whole), 3)) * np.isfinite(buffer.times[whole])
        for found, each in zip(buffer.series(whole, weights), weights, strict=True):
            for i, row in enumerate(whole):
                expected = sum(w * v for w, v in zip(each[i], kept[row].values(), strict=False))
                assert found[i].tolist() == pytest.approx([expected, expected])


def test_sums_of_half_precision_values_are_rounded_once() -> None:
    values, buffer = torch.randn(3, 1, 500, generator=torch.Generator().manual_seed(0)).bfloat16(), NodeBuffer(3, 1)
    for step, value in enumerate(values):
        buffer.push([0], float(step), value)
    exact = torch.einsum("k,kbn->bn", torch.tensor([-2.0, 9.0, -6.0]), values.flip(0).float())
    assert torch.equal(buffer.combined([0], np.array([[-2.0, 9.0, -6.0]])), exact.bfloat16())


def test_the_tensors_of_a_state_can_be_taken_out_and_put_back() -> None:
    batch = State(torch.arange(6.0).view(3, 2), 4, (torch.ones(3, 2), torch.zeros(3, 2)), torch.full((3, 2), 7.0))
    tensors = tensors_of(batch)
    assert [float(tensor[1, 0]) for tensor in tensors] == [2.0, 1.0, 0.0, 7.0]
    changed = with_tensors(batch, [2 * tensor for tensor in tensors])
    assert changed.step == 4 and len(changed.history) == 2 and changed.anchor is not None
    assert [float(tensor[1, 0]) for tensor in (changed.x, *changed.history, changed.anchor)] == [4.0, 2.0, 0.0, 14.0]
    assert batch.x[1].tolist() == [2.0, 3.0]


def test_kept_tokens_hold_each_cell_and_the_most_unstable() -> None:
    scores = torch.randn(3, 10, 14, generator=torch.Generator().manual_seed(0)) - 1.0
    kept = keep_tokens(scores, cell=3, limit=10_000)
    for sample, indices in zip(scores, kept, strict=True):
        chosen = torch.zeros(10, 14, dtype=torch.bool)
        chosen.view(-1)[indices] = True
        assert bool(chosen[sample >= 0].all())
        for top in range(0, 10, 3):
            for left in range(0, 14, 3):
                assert bool(chosen[top : top + 3, left : left + 3].any()), (top, left)
        assert len(indices) < 140 and torch.equal(indices, indices.unique())


def test_kept_tokens_stay_near_the_limit_and_prefer_high_scores() -> None:
    scores = torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(0))
    (indices,) = keep_tokens(scores, cell=4, limit=40)
    assert 40 <= len(indices) <= 40 + 9
    dropped = np.setdiff1d(np.arange(144), indices.numpy())
    grid = {row * 12 + column for row in (2, 6, 10) for column in (2, 6, 10)}
    free = [i for i in indices.tolist() if i not in grid]
    assert scores.flatten()[free].min() >= scores.flatten()[dropped].max()


def test_kept_tokens_of_a_sample_do_not_depend_on_its_batch() -> None:
    scores = torch.randn(4, 9, 9, generator=torch.Generator().manual_seed(0))
    together = keep_tokens(scores, cell=3, limit=30)
    for row in range(4):
        assert torch.equal(keep_tokens(scores[row : row + 1], cell=3, limit=30)[0], together[row])


def _doubling(hidden: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    return 2 * hidden + offset


def test_a_pruned_evaluation_computes_the_kept_tokens_and_reconstructs_the_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    site = Site("block", "b", 0, (4, 4))
    cache = TokenCache(samples=3, max_depth=0)
    first, second = (torch.randn(6, 16, 5, generator=generator) for _ in range(2))
    offset = torch.randn(6, 1, 5, generator=generator)
    full = cache.filling([0, 1, 2])(site, _doubling, first, offset)
    assert torch.equal(full, _doubling(first, offset))
    rows = [2, 0]  # two branches: rows 2 and 0 of each
    index = [2, 0, 5, 3]
    scores = torch.randn(2, 4, 4, generator=generator)
    kept = keep_tokens(scores, cell=3, limit=16)
    pruned = cache.pruning(rows, scores, cell=3, limit=16)(site, _doubling, second[index], offset[index])
    fresh, stale = _doubling(second, offset)[index], full[index]
    for position, indices in enumerate([kept[0], kept[1], kept[0], kept[1]]):
        mask = torch.zeros(16, dtype=torch.bool)
        mask[indices] = True
        assert 0 < int(mask.sum()) < 16
        torch.testing.assert_close(pruned[position][mask], fresh[position][mask])
        torch.testing.assert_close(pruned[position][~mask], stale[position][~mask])
    assert cache.nbytes == 2 * 3 * 16 * 5 * 4


def test_the_cache_leaves_deeper_levels_and_shells_alone() -> None:
    cache = TokenCache(samples=1, max_depth=0)
    hidden, scores = torch.randn(1, 4, 2), torch.zeros(1, 2, 2)
    for site in (Site("block", "deep", 1, (2, 2)), Site("shell", "s", 0, (2, 2))):
        for seam in (cache.filling([0]), cache.pruning([0], scores, 3, 1)):
            assert torch.equal(seam(site, _doubling, hidden, hidden), 3 * hidden)
    assert cache.nbytes == 0


def test_the_cache_takes_what_it_states_and_never_more_than_its_limit() -> None:
    generator = torch.Generator().manual_seed(0)
    sites = [Site("block", name, 0, (4, 4)) for name in "abc"]
    one = 2 * 2 * 16 * 5 * 4  # branches, samples, tokens, channels, bytes: one site

    def run(limit: int | None) -> tuple[TokenCache, list[bool]]:
        """The cache after several evaluations, and which sites were pruned in the last."""
        cache, calls = TokenCache(samples=2, max_depth=0, limit=limit), []

        def counted(hidden: torch.Tensor) -> torch.Tensor:
            calls.append(hidden.shape[1])
            return hidden

        for _ in range(3):
            for site in sites:
                cache.filling([0, 1])(site, counted, torch.randn(4, 16, 5, generator=generator))
        calls.clear()
        pruning = cache.pruning([0, 1], torch.full((2, 4, 4), -1.0), cell=3, limit=16)
        for site in sites:
            pruning(site, counted, torch.randn(4, 16, 5, generator=generator))
        return cache, [count < 16 for count in calls]

    assert run(None)[0].nbytes == 3 * one and run(None)[1] == [True] * 3
    assert run(2 * one)[0].nbytes == 2 * one and run(2 * one)[1] == [True, True, False]
    cache, pruned = run(one - 1)
    assert cache.nbytes == 0 and not any(pruned) and not cache.holds(0)


def test_nodes_hold_their_own_rows_and_not_the_batches_they_came_from() -> None:
    buffer = NodeBuffer(3, 4)
    for step in range(10):
        batch = torch.randn(4, 5)
        buffer.push([step % 4], float(step), batch[[step % 4]])
        batch.fill_(torch.nan)
    assert tensor_bytes(reachable(buffer).values()) == 3 * 4 * 5 * 4 + 2 * 3 * 4 * 8  # values, times and slots
    assert bool(torch.isfinite(buffer.at(range(4), 0.0)).all())


def test_cache_knows_who_was_evaluated() -> None:
    cache = TokenCache(samples=2, max_depth=0)
    seam, hidden = cache.filling([1]), torch.randn(1, 4, 2)
    seam(Site("block", "deep", 1, (2, 2)), _doubling, hidden, hidden)
    assert [cache.holds(0), cache.holds(1)] == [False, False]
    seam(Site("block", "outer", 0, (2, 2)), _doubling, hidden, hidden)
    assert [cache.holds(0), cache.holds(1)] == [False, True]


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3), (64, 64)])
def test_token_choice_works_at_any_size(size: tuple[int, int]) -> None:
    (indices,) = keep_tokens(torch.full((1, *size), -1.0), cell=3, limit=10_000)
    assert 1 <= len(indices) <= size[0] * size[1]
    assert int(indices.max()) < size[0] * size[1]
