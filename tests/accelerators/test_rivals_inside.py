"""Published rules inside a transformer, decision by decision and prediction by prediction against their formulas.

A run is recorded; at each of its states the network runs without acceleration, with hooks on its modules, and the rules
are written here anew over what the hooks saw. Nothing is shared with the accelerators but the layers of the network.
Everything is float64 on networks with random weights, guided by two branches.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sadaflow.accelerators import FirstBlock, MagCache, TaylorSeer, TeaCache
from sadaflow.accelerators.caching.magcache import FLUX_DEV
from sadaflow.models import FluxTransformer, Site, UNet, call_through
from sadaflow.sampling import Trace
from support.networks import small_flux, small_unet
from support.rivals import STEPS, compare, guided, l1, recorded, states, taylor


@pytest.fixture(scope="module")
def flux() -> FluxTransformer:
    return small_flux(single=3)


@pytest.fixture(scope="module")
def unet() -> UNet:
    return small_unet()


COEFFICIENTS = (3.0, -1.5, 2.0, 0.004)


@pytest.mark.parametrize("threshold", [0.1, 0.2])
def test_teacache(flux: FluxTransformer, threshold: float) -> None:
    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        total, before, kept = 0.0, [np.empty(0)], [torch.empty(0)]
        for step, branches in enumerate(states(flux, trace, row)):
            indicator = [branch.modulated for branch in branches]
            if step in (0, STEPS - 1):
                full = True
            else:
                total += float(np.poly1d(COEFFICIENTS)(l1(indicator, before)))
                full = not total < threshold
            before = indicator
            if full:
                total, kept = 0.0, [branch.image(-1) - branch.image(0) for branch in branches]
            answers = [branch.head(branch.image(0) + part) for branch, part in zip(branches, kept, strict=True)]
            yield "full" if full else "cached", guided(answers)

    trace = recorded(flux, TeaCache(threshold, COEFFICIENTS))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})
    assert trace.modes[0] != trace.modes[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 0.25},
        {"threshold": 0.3, "max_skips": 2, "warmup": 4},
        {"threshold": 0.3, "front": 2, "back": 1, "max_cached": 9},
    ],
    ids=["first-block", "bounded", "dbcache"],
)
def test_first_block(flux: FluxTransformer, settings: dict[str, Any]) -> None:
    front, back = settings.get("front", 1), settings.get("back", 0)

    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        kept_front, kept_rest = [torch.empty(0)], [torch.empty(0)]
        in_a_row = in_all = 0
        for step, branches in enumerate(states(flux, trace, row)):
            change = [branch.image(front) - branch.image(0) for branch in branches]
            full = step < max(1, settings.get("warmup", 0)) or in_a_row == settings.get("max_skips", -1)
            full = full or in_all == settings.get("max_cached", -1) or l1(change, kept_front) >= settings["threshold"]
            if full:
                in_a_row, kept_front = 0, change
                kept_rest = [branch.joint[-1 - back] - branch.joint[front] for branch in branches]
            else:
                in_a_row, in_all = in_a_row + 1, in_all + 1
            answers = []
            for branch, rest in zip(branches, kept_rest, strict=True):
                joint = branch.joint[front] + rest
                for block in list(flux.single_transformer_blocks)[3 - back :]:
                    site = Site("block", "last", 0, (1, 1))
                    parts = block.norm.linear(branch.time)
                    joint = block(joint, parts, branch.rope, seam=call_through, site=site)
                answers.append(branch.head(joint[:, branch.length :]))
            yield "full" if full else "cached", guided(answers)

    trace = recorded(flux, FirstBlock(**settings))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})


@pytest.mark.parametrize(("interval", "order", "first"), [(6, 1, 3), (4, 2, 3), (3, 3, 5)])
def test_taylorseer(flux: FluxTransformer, interval: int, order: int, first: int) -> None:
    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        series = taylor(STEPS, interval, order, first)
        for branches, (full, used) in zip(states(flux, trace, row), series, strict=True):
            residual = used(torch.stack([branch.image(-1) - branch.image(0) for branch in branches]))
            answers = [branch.head(branch.image(0) + part) for branch, part in zip(branches, residual, strict=True)]
            yield "full" if full else "cached", guided(answers)

    trace = recorded(flux, TaylorSeer(interval, order, first))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})


def magcache(steps: int, threshold: float, most: int, retention: float) -> list[bool]:
    """Whether each step is full: the published loop for Flux.1 dev."""
    places = np.round(np.arange(steps) * (27 / (steps - 1))).astype(int)
    scale, skipped, error, full = 1.0, 0, 0.0, []
    for step in range(steps):
        skip = False
        if step >= int(retention * steps + 0.5):
            scale *= FLUX_DEV[places[step]]
            skipped += 1
            error += abs(1 - scale)
            if error <= threshold and skipped <= most and places[step] != 11:
                skip = True
            else:
                scale, skipped, error = 1.0, 0, 0.0
        full.append(not skip)
    return full


@pytest.mark.parametrize(("threshold", "most", "retention"), [(0.24, 5, 0.1), (0.06, 3, 0.2)])
def test_magcache(flux: FluxTransformer, threshold: float, most: int, retention: float) -> None:
    schedule = magcache(STEPS, threshold, most, retention)

    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        kept = [torch.empty(0)]
        for full, branches in zip(schedule, states(flux, trace, row), strict=True):
            if full:
                kept = [branch.image(-1) - branch.image(0) for branch in branches]
            answers = [branch.head(branch.image(0) + part) for branch, part in zip(branches, kept, strict=True)]
            yield "full" if full else "cached", guided(answers)

    trace = recorded(flux, MagCache(threshold, most, retention))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})


def test_magcache_schedules() -> None:
    """That of the published demo, known from its run; and the transcription's at other numbers of steps."""
    assert MagCache().full_steps(28) == {0, 1, 2, 5, 9, 11, 17, 23, 26}
    for steps in (10, 28, 50, 75):
        full = [step for step, one in enumerate(magcache(steps, 0.24, 5, 0.1)) if one]
        assert sorted(MagCache().full_steps(steps)) == full
    assert 0 in MagCache(threshold=9.0, retention=0.0, never=()).full_steps(28)  # there is nothing to reuse yet
