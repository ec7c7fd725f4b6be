"""More published rules inside a transformer, step by step and prediction by prediction against their formulas.

As in test_rivals_inside: a run is recorded, and the rules are written here anew over what hooks on the network saw.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from torch import Tensor

from sadaflow.accelerators import DBCache, DiCache, FoCa, Fora, FreqCa, HiCache, SpeCa, make_accelerator
from sadaflow.accelerators.caching.freqca import low_frequencies
from sadaflow.checks import check_accelerator
from sadaflow.models import FluxTransformer
from sadaflow.sampling import Trace
from support.networks import small_flux, small_unet
from support.rivals import SIZE, STEPS, compare, guided, l1, recorded, states

GRID = (SIZE[0] // 2, SIZE[1] // 2)


@pytest.fixture(scope="module")
def flux() -> FluxTransformer:
    return small_flux(single=3)


def series(past: list[tuple[int, Any]], step: int, order: int, polynomial: Any) -> Any:
    """F + sum of D_k / k! polynomial(k, steps ahead), every difference divided by the gap before its newer value."""
    total, values, times = 0, [value for _, value in past], [float(time) for time, _ in past]
    for k in range(order + 1):
        if not values:
            break
        total = total + values[-1] / math.factorial(k) * polynomial(k, step - times[-1])
        gaps = np.diff(times)[len(times) - len(values) :]
        values = [(new - old) / gap for old, new, gap in zip(values[:-1], values[1:], gaps, strict=True)]
    return total


def hermite(scale: float) -> Any:
    return lambda k, u: scale**k * np.polynomial.hermite.hermval(scale * u, [0] * k + [1])


def hicache(past: list[tuple[int, Any]], used: list[Any], step: int) -> Any:
    return series(past, step, 2, hermite(0.7))


def fora(past: list[tuple[int, Any]], used: list[Any], step: int) -> Any:
    return past[-1][1]


def foca(divided: bool) -> Any:
    def forecast(past: list[tuple[int, Any]], used: list[Any], step: int) -> Any:
        (before, old), (last, new) = past[-2:]
        u = step - last
        slope = (new - old) / ((last - before) if divided else 1) + (used[-1] - used[-2])
        moved = new + u / 2 * slope
        return moved if u <= 3 else new + 3 / u * (moved - new)

    return forecast


def freqca(past: list[tuple[int, Any]], used: list[Any], step: int) -> Any:
    ahead, last = series(past, step, 2, hermite(0.71)).numpy(), past[-1][1].numpy()
    shape = last.shape  # (branches, 1, tokens, width)
    bands = []
    for values in (ahead, last):
        bands.append(dctn(values.reshape(*shape[:2], *GRID, shape[-1]), type=2, norm="ortho", axes=(2, 3)))
    radius = np.hypot(np.arange(GRID[0])[:, None], np.arange(GRID[1]))[:, :, None]
    mixed = np.where(radius <= 0.5 * radius.max(), bands[1], bands[0])
    return torch.from_numpy(idctn(mixed, type=2, norm="ortho", axes=(2, 3)).reshape(shape))


@pytest.mark.parametrize(
    ("accelerator", "forecast", "full"),
    [
        (HiCache(5, 2, 3, 0.7), hicache, {0, 1, 2, 7, 12, 17, 22}),
        (Fora(4), fora, {0, 4, 8, 12, 16, 20}),
        (FoCa(), foca(True), {0, 1, 2, 7, 12, 17, 22}),
        (FoCa(6, 2, released=True), foca(False), {0, 1, 7, 13, 19}),
        (FreqCa(4, cut=0.5), freqca, {0, 1, 2, 6, 10, 14, 18, 22}),
    ],
    ids=["hicache", "fora", "foca", "foca-released", "freqca"],
)
def test_forecasts_of_the_residual(flux: FluxTransformer, accelerator: Any, forecast: Any, full: set[int]) -> None:
    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        past: list[tuple[int, Any]] = []
        used: list[Any] = []
        for step, branches in enumerate(states(flux, trace, row)):
            if step in full:
                past.append((step, torch.stack([branch.image(-1) - branch.image(0) for branch in branches])))
            used.append(past[-1][1] if step in full else forecast(past, used, step))
            answers = [branch.head(branch.image(0) + part) for branch, part in zip(branches, used[-1], strict=True)]
            yield "full" if step in full else "cached", guided(answers)

    assert accelerator.full_steps(STEPS) == full
    trace = recorded(flux, accelerator)
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 0.07, "retention": 0.0},
        {"threshold": 0.06, "probe": 2, "retention": 0.2, "most": 2.0},
        {"threshold": 0.02, "error": "difference", "last": 0},
    ],
    ids=["probe", "two-blocks", "difference"],
)
def test_dicache(flux: FluxTransformer, settings: dict[str, Any]) -> None:
    probe, threshold, most = settings.get("probe", 1), settings["threshold"], settings.get("most", 1.5)
    free = range(int(settings.get("retention", 0.2) * STEPS) + 1, STEPS - settings.get("last", 1))

    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        probes: list[Any] = []
        residuals: list[Any] = []
        total, before = 0.0, (np.empty(0), np.empty(0))
        for step, branches in enumerate(states(flux, trace, row)):
            inputs = torch.stack([branch.image(0) for branch in branches]).numpy()
            after = torch.stack([branch.image(probe) for branch in branches]).numpy()
            if step in free:
                error = l1(list(after), list(before[1]))
                if settings.get("error") == "difference":
                    error = abs(error - l1(list(inputs), list(before[0])))
                total += error
            full = step not in free or not total < threshold
            before, q = (inputs, after), after - inputs
            if full:
                total = 0.0
                probes.append(q)
                residuals.append(torch.stack([branch.image(-1) for branch in branches]).numpy() - inputs)
                residual = residuals[-1]
            elif len(residuals) < 2:
                residual = residuals[-1]
            else:
                gamma = np.abs(q - probes[-2]).mean() / np.abs(probes[-1] - probes[-2]).mean()
                residual = residuals[-2] + min(max(gamma, 1), most) * (residuals[-1] - residuals[-2])
            parts = torch.from_numpy(inputs + residual)
            yield (
                "full" if full else "cached",
                guided([branch.head(part) for branch, part in zip(branches, parts, strict=True)]),
            )

    trace = recorded(flux, DiCache(**settings))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 0.7, "floor": 0.3},
        {"threshold": 0.9, "decay": 0.5, "unchecked": 0, "order": 2, "first": 2},
        {"threshold": 2.0, "decay": 0.1, "max_drafts": 3, "released": True},
    ],
    ids=["checked", "from-the-first", "released"],
)
def test_speca(flux: FluxTransformer, settings: dict[str, Any]) -> None:
    most, unchecked = settings.get("max_drafts", 8), settings.get("unchecked", 1)
    largest, decay, floor = settings["threshold"], settings.get("decay", 0.3), settings.get("floor", 0.1)

    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        past: tuple[list[tuple[int, Any]], list[tuple[int, Any]]] = ([], [])
        in_a_row, error = 0, 0.0
        for step, branches in enumerate(states(flux, trace, row)):
            bound = max(largest * decay ** (step / STEPS), floor)
            early = step < settings.get("first", 3)
            if settings.get("released"):
                full = step == 0 or (in_a_row > 0 and (early or error > bound or in_a_row >= most))
            else:
                few = len(past[0]) <= settings.get("order", 1)
                full = early or (few if in_a_row == 0 else error > bound or in_a_row >= most)
            if full:
                in_a_row, error = 0, 0.0
                past[0].append((step, torch.stack([branch.joint[-2] - branch.joint[0] for branch in branches])))
                past[1].append((step, torch.stack([branch.joint[-1] - branch.joint[-2] for branch in branches])))
                yield "full", guided([branch.head(branch.image(-1)) for branch in branches])
                continue
            before, last = (series(part, step, settings.get("order", 1), lambda k, u: u**k) for part in past)
            drafted = [branch.joint[0] + added for branch, added in zip(branches, before, strict=True)]
            if in_a_row >= unchecked:
                computed = torch.stack([b.last_block(x) - x for b, x in zip(branches, drafted, strict=True)])
                length = branches[0].length
                error = float(((last - computed).abs() / computed.abs())[..., length:, :].mean())
            in_a_row += 1
            ends = [(x + added)[:, branches[0].length :] for x, added in zip(drafted, last, strict=True)]
            yield "cached", guided([branch.head(end) for branch, end in zip(branches, ends, strict=True)])

    trace = recorded(flux, SpeCa(**settings))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})


def test_speca_needs_two_blocks() -> None:
    with pytest.raises(ValueError, match="'speca' needs a transformer of more than one block"):
        recorded(small_flux(0, double=1), SpeCa())


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 0.3, "max_skips": 3, "warmup": 6, "warmup_interval": 2},
        {"threshold": 0.3, "max_accumulated": 0.9, "max_cached": 9, "warmup": 2},
        {"threshold": 0.3, "evaluated": "1" * 4 + "0001" * 5},
        {"threshold": 0.0, "evaluated": "1" * 4 + "0001" * 5, "static": True},
        {"threshold": 1.0, "max_skips": 4, "warmup": 0},
    ],
    ids=["bounded", "accumulated", "mask", "static", "always"],
)
def test_dbcache(flux: FluxTransformer, settings: dict[str, Any]) -> None:
    """cache-dit's order of tests, with the lists that it keeps."""
    mask = [character == "1" for character in settings.get("evaluated", "")]

    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        kept_front, kept_rest = [torch.empty(0)], [torch.empty(0)]
        accepted: list[float] = []
        in_a_row = 0
        warm = settings.get("warmup", 8) if not mask else min(settings.get("warmup", 8), mask.index(False))
        for step, branches in enumerate(states(flux, trace, row)):
            change = [branch.image(1) - branch.image(0) for branch in branches]
            if step == 0 or step in range(0, warm, settings.get("warmup_interval", 1)) or (mask and mask[step]):
                skip = False
            elif settings.get("static"):
                skip = True
            elif len(accepted) >= settings.get("max_cached", 99) or in_a_row >= settings.get("max_skips", 99):
                skip = False
            elif sum(accepted) >= settings.get("max_accumulated", math.inf):
                skip = False
            else:
                skip = settings["threshold"] >= 1 or l1(change, kept_front) < settings["threshold"]
            if skip:
                in_a_row += 1
                accepted.append(l1(change, kept_front))
            else:
                in_a_row, kept_front = 0, change
                kept_rest = [branch.image(-1) - branch.image(1) for branch in branches]
            answers = [branch.head(branch.image(1) + rest) for branch, rest in zip(branches, kept_rest, strict=True)]
            yield "cached" if skip else "full", guided(answers)

    trace = recorded(flux, DBCache(**settings))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})


def test_dbcache_without_steps_cannot_be_static() -> None:
    with pytest.raises(ValueError, match="DBCache.static needs the steps that run in full"):
        DBCache(static=True)
    assert sorted(DBCache(evaluated="scm-fast", warmup=4).full_steps(28)) == [0, 1, 2, 3, 4, 5, 7, 11, 16, 22, 27]


def test_low_frequencies_are_those_of_the_dct() -> None:
    x = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spectrum = dctn(x.numpy(), type=2, norm="ortho", axes=(1, 2))
    radius = np.hypot(np.arange(5)[:, None], np.arange(7))
    expected = idctn(np.where(radius <= 0.4 * radius.max(), spectrum, 0), type=2, norm="ortho", axes=(1, 2))
    np.testing.assert_allclose(low_frequencies(x, 0.4), expected, atol=1e-12)
    torch.testing.assert_close(low_frequencies(x, 1.0), x)
    torch.testing.assert_close(low_frequencies(x, 0.0), x.mean(dim=(1, 2), keepdim=True).expand_as(x))


@pytest.mark.parametrize("name", ["hicache", "fora", "foca", "freqca"])
def test_a_unet_runs_with_forecasts(name: str) -> None:
    trace = recorded(small_unet(), make_accelerator(name))
    assert {mode for line in trace.modes for mode in line} == {"full", "cached"}
    assert torch.isfinite(trace.x0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "factory",
    [lambda: DBCache(threshold=0.2, warmup=2), DiCache, HiCache, FoCa, Fora, lambda: FreqCa(interval=3), SpeCa],
    ids=["dbcache", "dicache", "hicache", "foca", "fora", "freqca", "speca"],
)
def test_they_pass_the_examination(factory: Any) -> None:
    check_accelerator(factory, solvers=("dpmpp2m", "heun", "midpoint", "dpmpp2m-sde"))
