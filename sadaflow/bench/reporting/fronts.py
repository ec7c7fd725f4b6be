"""Turns measurements into fronts: mean and worst fidelity of every setting, and fidelity at a given cost."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..run.lines import Record
from ..run.sweep import case_of, key_of
from ..suite.model import PLAIN, Case, Setting, Suite

CEILING = 80.0  # dB: the most that a sample counts, so that samples equal to the plain ones do not dominate a mean


@dataclass(frozen=True)
class Row:
    """A setting over all samples that it was measured on.

    Attributes:
        setting: The setting.
        samples: Number of samples.
        cost: Mean network evaluations; an evaluation of the conditional branch alone counts 1/2.
        fidelity: Mean PSNR in dB, or mean signal-to-error ratio of the latents if there are no pictures. A sample
            counts at most `CEILING`.
        fifth: 5th percentile of the samples' fidelity, linear between samples.
        worst: Lowest fidelity of all samples.
        ssim: Mean SSIM; None if there are no pictures.
        worst_ssim: Lowest SSIM; None if there are no pictures.
        error: Mean of ||latents - plain|| / ||plain||.
        worst_error: Largest of these errors.
        metrics: Further metrics by name: mean, least and largest value.
        worst_frame: Of videos, the lowest PSNR of a frame in dB; None for others.
    """

    setting: Setting
    samples: int
    cost: float
    fidelity: float
    fifth: float
    worst: float
    ssim: float | None
    worst_ssim: float | None
    error: float
    worst_error: float
    metrics: Mapping[str, tuple[float, float, float]]
    worst_frame: float | None = None


def decibels(error: float) -> float:
    """Returns a relative error as signal-to-error ratio in dB, -20 log10(error)."""
    return -20 * math.log10(error) if error else math.inf


def rows(suite: Suite, case: Case, records: Iterable[Record]) -> list[Row]:
    """Summarises the measurements of a case.

    Args:
        suite: The suite that was measured.
        case: The case.
        records: Lines of `samples.jsonl`.

    Returns:
        A row for each setting with measurements, the plain run first.

    Raises:
        ValueError: If a sample was measured twice.
    """
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
    fidelity = [min(CEILING, float(line["psnr"]) if pictured else decibels(line["error"])) for line in records]
    ssim = [record["ssim"] for record in records] if pictured else []
    return Row(
        setting=setting,
        samples=len(records),
        cost=statistics.fmean(record["nfe"] for record in records),
        fidelity=statistics.fmean(fidelity),
        fifth=float(np.percentile(fidelity, 5)),
        worst=min(fidelity),
        ssim=statistics.fmean(ssim) if pictured else None,
        worst_ssim=min(ssim, default=None),
        error=statistics.fmean(errors),
        worst_error=max(errors),
        metrics=_metrics(records),
        worst_frame=min((float(record["worst_psnr"]) for record in records if "worst_psnr" in record), default=None),
    )


def _metrics(records: Sequence[Record]) -> dict[str, tuple[float, float, float]]:
    found = {}
    for name in records[0].get("metrics", {}):
        values = [record["metrics"][name] for record in records]
        found[name] = (statistics.fmean(values), min(values), max(values))
    return found


class Point(NamedTuple):
    """Cost in network evaluations and fidelity in dB of a setting."""

    cost: float
    fidelity: float


class Reading(NamedTuple):
    """A value read off a front. `bound` is "<=" or ">=" beyond the ends of the front, where only a bound is known."""

    value: float
    bound: str = ""


Front = Sequence[Point]


def front(points: Iterable[Point]) -> Front:
    """Returns the points that no other point beats in cost and fidelity both, by rising cost.

    Points at the ceiling are left out, because fidelity above it is not distinguished.
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.fidelity)):
        if point.fidelity < CEILING and (not best or point.fidelity > best[-1].fidelity):
            best.append(point)
    return best


def fidelity_at(points: Front, cost: float) -> Reading | None:
    """Returns the fidelity of a front at a cost, linear between its points; None if every point costs more."""
    if not points or cost < points[0].cost:
        return None
    if cost > points[-1].cost:
        return Reading(points[-1].fidelity, ">=")
    return Reading(_between(points, cost))


def cost_at(points: Front, fidelity: float) -> Reading | None:
    """Returns the cost of a front at a fidelity, linear between its points; None if every point has less."""
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
    """Returns the front of every method except the plain run, over the mean or the worst fidelity."""
    points: dict[str, list[Point]] = {}
    for row in table:
        if row.setting != PLAIN:
            points.setdefault(row.setting.method, []).append(Point(row.cost, row.worst if worst else row.fidelity))
    return {method: front(found) for method, found in points.items()}


@dataclass(frozen=True)
class Speed:
    """Seconds of a setting against the plain run of the same round.

    Attributes:
        rounds: Number of measured rounds.
        seconds: Median seconds of a batch.
        speedup: Median speed-up.
        low: Lower quartile of the speed-up.
        high: Upper quartile of the speed-up.
        realised: Median of saved share of seconds / saved share of cost; None if no evaluations were saved.
        controller: Median seconds in the accelerator itself, as a share of the plain run's seconds.
        network: Median seconds in the network; nan if the folder does not hold them.
        memory: Largest peak memory of all batches in bytes; nan if the folder does not hold it.
    """

    rounds: int
    seconds: float
    speedup: float
    low: float
    high: float
    realised: float | None
    controller: float
    network: float
    memory: float


def speeds(case: Case, lines: Iterable[Record]) -> dict[str, Speed]:
    """Summarises the timed settings of a case, by label."""
    found: dict[str, list[tuple[Record, Record]]] = {}
    for line in lines:
        if case_of(line) == case:
            for label, measured in line["runs"].items():
                found.setdefault(label, []).append((measured, line["runs"][PLAIN.label]))
    return {label: _speed(pairs) for label, pairs in found.items()}


def _speed(pairs: Sequence[tuple[Record, Record]]) -> Speed:
    ratios = [plain["seconds"] / fast["seconds"] for fast, plain in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    realised = [
        (1 - fast["seconds"] / plain["seconds"]) / (1 - fast["nfe"] / plain["nfe"])
        for fast, plain in pairs
        if fast["nfe"] < plain["nfe"]
    ]
    return Speed(
        rounds=len(pairs),
        seconds=statistics.median(fast["seconds"] for fast, _ in pairs),
        speedup=middle,
        low=low,
        high=high,
        realised=statistics.median(realised) if realised else None,
        controller=statistics.median(fast["controller"] / plain["seconds"] for fast, plain in pairs),
        network=statistics.median(fast.get("network", math.nan) for fast, _ in pairs),
        memory=max(fast.get("memory", math.nan) for fast, _ in pairs),
    )
