"""Interleaved rounds of measurements, with medians and medians of the ratios within a round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

Round = Mapping[str, Mapping[str, float]]
"""The numbers of every setting in one round, by name."""


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of several measurements."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarises measurements."""
        return cls(median(values), min(values), max(values))


def interleaved(
    settings: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int, advance: Callable[[int], None]
) -> list[Round]:
    """Runs every setting once per round.

    Each round begins with another setting, so that a machine that slows down or speeds up affects all alike.

    Args:
        settings: Functions that measure a setting, by name.
        rounds: Number of rounds.
        advance: Called with 1 after every run.
    """
    names = list(settings)
    made: list[Round] = []
    for number in range(rounds):
        turn = number % len(names)
        numbers = {}
        for name in (*names[turn:], *names[:turn]):
            numbers[name] = settings[name]()
            advance(1)
        made.append({name: numbers[name] for name in names})
    return made


def spread(rounds: Sequence[Round], name: str, number: str) -> Spread:
    """Summarises one number of one setting over the rounds."""
    return Spread.of([measured[name][number] for measured in rounds])


def ratio(rounds: Sequence[Round], name: str, over: str, number: str) -> float:
    """Returns the median ratio of a number of setting `name` to that of setting `over` in the same round."""
    return median(measured[name][number] / measured[over][number] for measured in rounds)


def efficiency(rounds: Sequence[Round], name: str, plain: str) -> float:
    """Returns how much of the saving in evaluations shows as a saving in seconds of the sampling loop.

    Median over the rounds of (plain seconds / accelerated seconds) / (plain NFE / accelerated NFE).
    """
    pairs = [(measured[plain], measured[name]) for measured in rounds]
    return median(slow["loop"] / fast["loop"] * fast["nfe"] / slow["nfe"] for slow, fast in pairs)
