"""cache-dit's steps masks ("SCM"): runs of computed and of cached steps in turn, by how fast they are."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from types import MappingProxyType
from typing import Final

from .rescaling import rescaled

Bins = tuple[Sequence[int], Sequence[int]]
"""Lengths of the runs of computed steps, and of the runs of cached steps between them."""

_LONG: Final[Mapping[str, Bins]] = MappingProxyType(
    {
        "slow": ((8, 3, 3, 2, 1, 1), (1, 2, 2, 2, 3)),
        "medium": ((6, 2, 2, 2, 2, 1), (1, 3, 3, 3, 3)),
        "fast": ((6, 1, 1, 1, 1, 1), (1, 3, 4, 5, 4)),
        "ultra": ((4, 1, 1, 1, 1), (2, 5, 6, 7)),
    }
)  # of 28 steps
_SHORT: Final[Mapping[str, Bins]] = MappingProxyType(
    {
        "slow": ((4, 2, 2, 2, 1), (1, 1, 1, 1)),
        "medium": ((4, 2, 1, 1, 1), (1, 1, 2, 2)),
        "fast": ((3, 1, 1, 1, 1), (1, 2, 2, 3)),
        "ultra": ((2, 1, 1, 1, 1), (1, 2, 3, 3)),
    }
)  # of 15 steps
_EXACT: Final[Mapping[int, Mapping[str, Bins]]] = MappingProxyType(
    {
        9: dict(
            slow=((5, 2, 1), (1,)), medium=((5, 1, 1), (1, 1)), fast=((4, 1, 1), (1, 2)), ultra=((3, 1, 1), (2, 2))
        ),
        8: dict(
            slow=((5, 1, 1), (1,)), medium=((4, 1, 1), (1, 1)), fast=((3, 1, 1), (1, 2)), ultra=((2, 1, 1), (2, 2))
        ),
        6: dict.fromkeys(("slow", "medium", "fast", "ultra"), ((3, 1), (2,))),
        4: dict.fromkeys(("slow", "medium", "fast", "ultra"), ((2, 1), (1,))),
    }
)  # of so many steps
_SPEEDS: Final = tuple(_LONG)
_LEAST: Final = 16  # steps for which the long table is used


def scm_mask(speed: str, steps: int, released: bool = False) -> tuple[bool, ...]:
    """The mask of evaluated steps.

    The published tables are for 28, 15, 9, 8, 6 and 4 steps. For other numbers of steps cache-dit trims the end of the
    longer table, or lengthens its runs, so that "fast" at 20 steps ends with 11 cached steps. That is `released`;
    otherwise the shape of the table is kept.

    Args:
        speed: "slow", "medium", "fast" or "ultra".
        steps: Number of steps, N.
        released: Whether to trim and lengthen as cache-dit does.

    Raises:
        ValueError: if the speed is unknown, or if `released` and cache-dit refuses the number of steps.
    """
    if speed not in _SPEEDS:
        raise ValueError(f"unknown steps mask 'scm-{speed}'; known are {', '.join(f'scm-{each}' for each in _SPEEDS)}")
    if steps in _EXACT:
        return _mask(*_EXACT[steps][speed])
    table = _LONG if steps >= _LEAST else _SHORT
    if not released:
        return rescaled(_mask(*table[speed]), steps)
    if steps < 10:
        raise ValueError(f"cache-dit has no mask 'scm-{speed}-released' for {steps} steps; 'scm-{speed}' has one")
    compute, cache = (list(bins) for bins in table[speed])
    _lengthen(compute, cache, steps)
    _trim(compute, cache, steps)
    return _mask(compute, cache)


def _mask(compute: Sequence[int], cache: Sequence[int]) -> tuple[bool, ...]:
    """The mask of some runs; its last step is computed."""
    mask: list[bool] = []
    for computed, cached in zip_longest(compute, cache, fillvalue=0):
        mask += [True] * computed + [False] * cached
    return (*mask[:-1], True)


def _lengthen(compute: list[int], cache: list[int], steps: int) -> None:
    """Lengthens the runs in turn, in proportion to their lengths, until there are `steps`; in place."""
    for index in range(len(cache)):
        for bins in (compute, cache):
            if sum(compute) + sum(cache) < steps:
                bins[index] += max(bins[index] * steps // 56, 1)
    compute[-1] += max(0, steps - sum(compute) - sum(cache))


def _trim(compute: list[int], cache: list[int], steps: int) -> None:
    """Shortens the last runs, cached and computed ones in turn, until there are `steps`; in place."""
    turn = 0
    while sum(compute) + sum(cache) > steps:
        bins = (cache, compute)[turn % 2]
        turn += 1
        if bins:
            bins[-1] -= 1
            if bins[-1] == 0:
                bins.pop()
