"""The colour of each method, the same in every figure and page."""

from collections.abc import Mapping
from itertools import cycle
from typing import NamedTuple


class Shade(NamedTuple):
    """One colour in two versions.

    Attributes:
        light: Colour on a white background, as "#rrggbb".
        dark: Colour on a dark background, as "#rrggbb".
    """

    light: str
    dark: str


# By the name of an accelerator or naive baseline, or by the name that the shipped suites give to a variant.
METHOD_SHADES: Mapping[str, Shade] = {
    "plain": Shade("#222222", "#e4e4e4"),
    "auto": Shade("#d55e00", "#ff8136"),
    "sada": Shade("#0072b2", "#4d9dff"),
    "sada-released": Shade("#2b91cd", "#8fdcff"),
    "uniform": Shade("#555555", "#bdbdbd"),
    "uniform, quadratic": Shade("#cc79a7", "#ef9fcb"),
    "uniform, linear, replayed": Shade("#9c755f", "#cfa58c"),
    "sub-grid": Shade("#009e73", "#1fc997"),
    "fewer-steps": Shade("#8f8f8f", "#8a8a8a"),
    "adaptive-diffusion": Shade("#882255", "#d4699c"),
    "deepcache": Shade("#c07f00", "#ffb92e"),
    "teacache": Shade("#2f9c8b", "#62d6c4"),
    "first-block": Shade("#6f8a1c", "#b5d35a"),
    "taylorseer": Shade("#5b4bb5", "#9f92ff"),
    "seacache": Shade("#9a8c00", "#f0e442"),
    "easycache": Shade("#661100", "#c86a52"),
    "magcache": Shade("#117733", "#5fbf7a"),
    "guidance": Shade("#aa4499", "#dd83cf"),
    "dbcache": Shade("#0000ff", "#aa00ff"),
    "dicache": Shade("#d500ff", "#ff0000"),
    "faster-guidance": Shade("#ff0055", "#ff0080"),
    "foca": Shade("#000073", "#00ff00"),
    "fora": Shade("#9966ff", "#00ffff"),
    "freqca": Shade("#7300e6", "#864dbf"),
    "hicache": Shade("#ff26b7", "#ff26db"),
    "meancache": Shade("#bf0000", "#607300"),
    "schedule": Shade("#264aff", "#1d6ebf"),
    "speca": Shade("#c30087", "#78ff00"),
    "spectrum": Shade("#4c0099", "#d2a6ff"),
    "zeus": Shade("#e65c5c", "#bf4000"),
}
OTHER_METHODS = (Shade("#7a5230", "#b98d63"), Shade("#6a7fb0", "#9db2e6"), Shade("#000000", "#ffffff"))


def method_shades(methods: Mapping[str, str]) -> dict[str, Shade]:
    """Chooses the colours of methods: the same method has the same colour in every figure and page.

    Args:
        methods: Name of each method as shown -> name of its accelerator or naive baseline.

    Returns:
        Shade of each method, in the order given: that of its name if `METHOD_SHADES` has it, else that of its
        accelerator. Methods that the table does not know, and further variants of one accelerator, take
        `OTHER_METHODS` in turn.
    """
    shades = {name: METHOD_SHADES[name] for name in methods if name in METHOD_SHADES}
    for name, accelerator in methods.items():
        shade = METHOD_SHADES.get(accelerator)
        if name not in shades and shade is not None and shade not in shades.values():
            shades[name] = shade
    shades |= dict(zip((name for name in methods if name not in shades), cycle(OTHER_METHODS), strict=False))
    return {name: shades[name] for name in methods}


def method_of(label: str) -> str:
    """Returns the name of the method in a label such as "auto budget=25" or "sada tokens=false + guidance"."""
    return label if label in METHOD_SHADES else label.split(" ", 1)[0]
