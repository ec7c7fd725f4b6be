"""The colour and the meaning of each mode, the same in every figure and page."""

from collections.abc import Iterable
from itertools import cycle

# Okabe and Ito's colours, which colour-blind readers can distinguish. Modes that run the network are blue or green.
MODE_COLOURS = {
    "full": "#0072b2",
    "tokens": "#56b4e9",
    "cached": "#009e73",
    "conditional": "#88ccee",
    "stepwise": "#e69f00",
    "multistep": "#f0e442",
    "extrapolated": "#d9d9d9",
    "reused": "#cc79a7",
}
MODE_MEANINGS = {
    "full": "the whole network",
    "tokens": "the network on some tokens",
    "cached": "a part of the network, the rest from a cache",
    "conditional": "the network without its unconditional branch",
    "stepwise": "skipped, SADA's step-wise estimate",
    "multistep": "skipped, SADA's multistep estimate",
    "extrapolated": "skipped, x0 from past evaluations",
    "reused": "skipped, past output",
}
OTHER_MODES = ("#d55e00", "#000000")


def mode_colours(modes: Iterable[str]) -> dict[str, str]:
    """Returns the colour of each mode that occurs, in the order of the legend."""
    occurring = set(modes)
    known = {mode: colour for mode, colour in MODE_COLOURS.items() if mode in occurring}
    return known | dict(zip(sorted(occurring - known.keys()), cycle(OTHER_MODES), strict=False))


def mode_meaning(mode: str) -> str:
    """Returns the text of a legend entry: the mode and, if it is known, what is done in it."""
    return f"{mode}: {MODE_MEANINGS[mode]}" if mode in MODE_MEANINGS else mode
