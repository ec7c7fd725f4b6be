"""From measurements to fronts: means and worst cases of every setting, and what a method reaches at a cost."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..run.folder import Record
from ..run.sweep import case_of, key_of
from ..suite.model import PLAIN, Case, Setting, Suite

CEILING = 80.0  # dB: no sample counts more, lest those that were not skipped at all carry a mean


@dataclass(frozen=True)
class Row:
    """A setting over all samples that it was measured on. `worst` is the lowest of all prompts and seeds."""

    setting: Setting
    samples: int
    cost: float  # mean network evaluations; a conditional-only one counts one half
    fidelity: float  # dB, mean: PSNR, or the latents' signal-to-error ratio where there are no pictures; see CEILING
    worst: float
    ssim: float | None  # mean; None where there are no pictures
    worst_ssim: float | None
    error: float  # mean of ||latents - plain|| / ||plain||
    worst_error: float
    metrics: Mapping[str, tuple[float, float, float]]  # further ones by name: mean, least and most


def decibels(error: float) -> float:
    """A relative error as a signal-to-error ratio, -20 log10(error)."""
    return -20 * math.log10(error) if error else math.inf


def rows(suite: Suite, case: Case, records: Iterable[Record]) -> list[Row]:
    """One row for every setting of the case with measurements, plain first; a sample found twice is an error."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if case_of(record) == case:
            found.setdefault(record["setting"], []).append(record)
    return [_row(setting, found[setting.label]) for setting in suite.settings(case) if setting.label in found]


def _row(setting: Setting, records: Sequence[Record]) -> Row:
    if len({key_of(record) for record in records}) < len(records):
        raise ValueError(f"a sample of {setting.label!r} was measured twice; did two benches run in one folder?")
    pictured = records[0]["psnr"] is not None
    errors = [record["error"] for record in records]
    fidelity = [min(CEILING, float(one["psnr"]) if pictured else decibels(one["error"])) for one in records]
    ssim = [record["ssim"] for record in records] if pictured else []
    return Row(
        setting=setting,
        samples=len(records),
        cost=statistics.fmean(record["nfe"] for record in records),
        fidelity=statistics.fmean(fidelity),
        worst=min(fidelity),
        ssim=statistics.fmean(ssim) if pictured else None,
        worst_ssim=min(ssim, default=None),
        error=statistics.fmean(errors),
        worst_error=max(errors),
        metrics=_metrics(records),
    )


def _metrics(records: Sequence[Record]) -> dict[str, tuple[float, float, float]]:
    found = {}
    for name in records[0].get("metrics", {}):
        values = [record["metrics"][name] for record in records]
        found[name] = (statistics.fmean(values), min(values), max(values))
    return found


class Point(NamedTuple):
    cost: float
    fidelity: float  # dB


class Reading(NamedTuple):
    """A value read off a front; `bound` is "<=" or ">=" where the front ends before, so that only so much is known."""

    value: float
    bound: str = ""


Front = Sequence[Point]


def front(points: Iterable[Point]) -> Front:
    """The points that none of the others beats in cost and fidelity both, by rising cost; those at the ceiling are
    left out, because more is not told apart there."""
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.fidelity)):
        if point.fidelity < CEILING and (not best or point.fidelity > best[-1].fidelity):
            best.append(point)
    return best


def fidelity_at(points: Front, cost: float) -> Reading | None:
    """The fidelity that a front has at a cost, linear between its points; None where all of it costs more."""
    if not points or cost < points[0].cost:
        return None
    if cost > points[-1].cost:
        return Reading(points[-1].fidelity, ">=")
    return Reading(_between(points, cost))


def cost_at(points: Front, fidelity: float) -> Reading | None:
    """The cost at which a front has a fidelity, linear between its points; None where all of it has less."""
    if not points or fidelity > points[-1].fidelity:
        return None
    if fidelity < points[0].fidelity:
        return Reading(points[0].cost, "<=")
    return Reading(_between([Point(point.fidelity, point.cost) for point in points], fidelity))


def _between(points: Sequence[Point], at: float) -> float:
    for (low, value), (high, other) in zip(points, points[1:], strict=False):
        if low <= at <= high:
            return value + (other - value) * (at - low) / (high - low)
    return points[0].fidelity


def fronts(table: Iterable[Row], worst: bool = False) -> Mapping[str, Front]:
    """The front of every method but the plain one, over the mean fidelity or the worst."""
    points: dict[str, list[Point]] = {}
    for row in table:
        if row.setting != PLAIN:
            points.setdefault(row.setting.method, []).append(Point(row.cost, row.worst if worst else row.fidelity))
    return {method: front(found) for method, found in points.items()}


@dataclass(frozen=True)
class Speed:
    """Seconds of a setting against the plain run of the same round."""

    rounds: int
    seconds: float  # a batch, median
    speedup: float  # median, and quartiles
    low: float
    high: float
    realised: float | None  # saved share of seconds over saved share of cost, median; None where nothing was saved
    controller: float  # share of the plain run's seconds, median
    network: float  # seconds in the network, median; nan of folders that do not hold them, as memory
    memory: float  # peak, bytes, the most of all batches


def speeds(case: Case, lines: Iterable[Record]) -> dict[str, Speed]:
    """By label, the timed settings of a case."""
    found: dict[str, list[tuple[Record, Record]]] = {}
    for line in lines:
        if case_of(line) == case:
            for label, measured in line["runs"].items():
                found.setdefault(label, []).append((measured, line["runs"][PLAIN.label]))
    return {label: _speed(pairs) for label, pairs in found.items()}


def _speed(pairs: Sequence[tuple[Record, Record]]) -> Speed:
    ratios = [plain["seconds"] / one["seconds"] for one, plain in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    realised = [
        (1 - one["seconds"] / plain["seconds"]) / (1 - one["nfe"] / plain["nfe"])
        for one, plain in pairs
        if one["nfe"] < plain["nfe"]
    ]
    return Speed(
        rounds=len(pairs),
        seconds=statistics.median(one["seconds"] for one, _ in pairs),
        speedup=middle,
        low=low,
        high=high,
        realised=statistics.median(realised) if realised else None,
        controller=statistics.median(one["controller"] / plain["seconds"] for one, plain in pairs),
        network=statistics.median(one.get("network", math.nan) for one, _ in pairs),
        memory=max(one.get("memory", math.nan) for one, _ in pairs),
    )
