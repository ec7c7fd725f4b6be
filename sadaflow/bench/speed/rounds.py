"""Interleaved rounds, and what is read off them: medians, and medians of the ratios within a round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

Round = Mapping[str, Mapping[str, float]]
"""Of every setting, by name, the numbers of one round."""


@dataclass(frozen=True)
class Spread:
    """Median, least and most of several measurements."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(median(values), min(values), max(values))


def interleaved(
    settings: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int, advance: Callable[[int], None]
) -> list[Round]:
    """Every setting once a round, each round beginning with another, so that a machine that slows down or speeds up
    touches all alike. `advance` is called after each."""
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
    """Of one number of one setting, over the rounds."""
    return Spread.of([one[name][number] for one in rounds])


def ratio(rounds: Sequence[Round], name: str, over: str, number: str) -> float:
    """Median over the rounds of `name`'s number over that of `over` in the same round."""
    return median(one[name][number] / one[over][number] for one in rounds)


def efficiency(rounds: Sequence[Round], name: str, plain: str) -> float:
    """Share of the saved evaluations that shows as saved seconds of the loop, median over the rounds:
    (plain seconds / accelerated seconds) / (plain NFE / accelerated NFE)."""
    return median(one[plain]["loop"] / one[name]["loop"] * one[name]["nfe"] / one[plain]["nfe"] for one in rounds)
