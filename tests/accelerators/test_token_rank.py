"""SADA's tokens ranked by the change of the velocity: numpy's ranking, and the tokens that a run computes."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from sadaflow.accelerators import SADA
from sadaflow.accelerators.sada.criterion import change_scores
from sadaflow.models import Seam, Site
from sadaflow.sampling import sample
from support.gaussians import Gaussians, problem


class Shaken(Gaussians):
    """Oscillates by an amount of its own at each position, so that some positions are unstable and others are not."""

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam | None) -> Tensor:
        shake = torch.rand(6, 6, generator=torch.Generator().manual_seed(1), dtype=x.dtype) - 0.5
        x0 = super().evaluate(x, step, rows, None) + 0.003 * shake * math.sin(2.5 * step)
        if seam is None:
            return x0
        tokens = seam(Site("block", "only", 0, (6, 6)), lambda hidden: hidden, x0.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, (6, 6))


def test_as_many_positions_as_are_unstable_those_that_changed_most() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 5, 4, generator=generator)
    scores[2] = -1.0  # nothing is unstable
    velocities = [torch.randn(3, 2, 5, 4, generator=generator) for _ in range(3)]
    ranked = change_scores(scores, velocities)
    for row, count in enumerate([int((scores[0] >= 0).sum()), int((scores[1] >= 0).sum()), 0]):
        change = np.abs(velocities[0][row].numpy() - velocities[1][row].numpy()).mean(axis=0).ravel()
        expected = np.zeros(20, dtype=bool)
        expected[np.argsort(-change)[:count]] = True
        assert (ranked[row].flatten() >= 0).tolist() == expected.tolist()


def test_a_run_computes_the_tokens_that_changed_most() -> None:
    solver, still, noise = problem(50, samples=4)
    denoise = Shaken(solver, still.mean, still.deviation, 0 * still.wiggle)
    settings = {"token_cell": 100}  # a single centre
    out = sample(solver, denoise, noise, SADA(token_rank="change", **settings), trace=True)
    by_criterion = sample(solver, denoise, noise, SADA(**settings), trace=True)
    assert out.trace is not None and by_criterion.trace is not None
    compared = 0
    for row, modes in enumerate(out.stats.modes):
        if "tokens" not in modes:
            continue
        step = modes.index("tokens")
        assert by_criterion.stats.modes[row].index("tokens") == step  # the criterion decides on the step as before
        mask, other = (run.trace.tokens[row][step] for run in (out, by_criterion))
        change = (out.trace.y[row, step - 1] - out.trace.y[row, step - 2]).abs().mean(dim=0)
        assert mask.sum() == other.sum() and mask.any()
        if mask.all():
            continue
        assert (change[mask] < change[~mask].max()).sum() <= 1  # the centre
        compared += not torch.equal(mask, other)
    assert compared > 0


def test_an_unknown_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="token_rank.*criterion"):
        SADA(token_rank="velocity")
