"""Colours and names of the modes in every figure."""

from collections.abc import Iterable

# Okabe and Ito's colours, told apart by colour-blind eyes too. What runs the network is blue, what does not is not.
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
    "full": "network in full",
    "tokens": "network on some tokens",
    "cached": "network in part, the rest from a cache",
    "conditional": "conditional branch alone",
    "stepwise": "skipped, step-wise estimate",
    "multistep": "skipped, multistep estimate",
    "extrapolated": "skipped, extrapolated",
    "reused": "skipped, past outputs reused",
}
OTHER_COLOURS = ("#d55e00", "#000000")
INK, FAINT, PAPER = "#222222", "#666666", "#ffffff"


def mode_colours(modes: Iterable[str]) -> dict[str, str]:
    """The colours of the modes that occur, in the legend's order."""
    occurring = set(modes)
    known = {mode: colour for mode, colour in MODE_COLOURS.items() if mode in occurring}
    others = sorted(occurring - known.keys())
    return known | {mode: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, mode in enumerate(others)}


def mode_meaning(mode: str) -> str:
    return f"{mode}: {MODE_MEANINGS[mode]}" if mode in MODE_MEANINGS else mode
