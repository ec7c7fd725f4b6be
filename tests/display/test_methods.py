"""The palette: every method and mode has a colour of its own, which can be read on light and dark pages."""

import tomllib
from itertools import combinations

import pytest

from sadaflow.accelerators import ACCELERATORS, Mode
from sadaflow.bench import load_suite, shipped_suites
from sadaflow.bench.reporting.curves import shades
from sadaflow.bench.suite.model import RIVALS
from sadaflow.display.methods import METHOD_SHADES, OTHER_METHODS, method_of, method_shades
from sadaflow.display.modes import MODE_COLOURS, MODE_MEANINGS, mode_colours

LIGHT, DARK = "#fdfdfc", "#16181a"  # --paper of the page
OF_THEIR_OWN = [name for name, text in shipped_suites().items() if tomllib.loads(text).get("prompts")]
SUITES = sorted([*OF_THEIR_OWN, "fronts-mixture"])  # the others are given prompts


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [value / 255 for value in bytes.fromhex(colour[1:])]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(colour: str, other: str) -> float:
    low, high = sorted((luminance(colour), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", [*METHOD_SHADES, *range(len(OTHER_METHODS))])
def test_every_method_stands_out_from_the_page(name: str | int) -> None:
    """3:1 is what WCAG 2.2 asks of graphics (1.4.11)."""
    shade = METHOD_SHADES[name] if isinstance(name, str) else OTHER_METHODS[name]
    assert contrast(shade.light, LIGHT) >= 3 and contrast(shade.dark, DARK) >= 3


def test_every_method_and_mode_has_a_colour_of_its_own() -> None:
    assert METHOD_SHADES.keys() >= ACCELERATORS.keys() | set(RIVALS)
    assert MODE_COLOURS.keys() == MODE_MEANINGS.keys() == {mode.value for mode in Mode}
    every = [*METHOD_SHADES.values(), *OTHER_METHODS]
    for version in ("light", "dark"):
        colours = [bytes.fromhex(getattr(shade, version)[1:]) for shade in every]
        assert all(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) > 30**2 for a, b in combinations(colours, 2))


@pytest.mark.parametrize("name", SUITES)
def test_a_method_has_the_same_colour_in_every_suite(name: str) -> None:
    suite, found = load_suite(name), shades(load_suite(name))
    assert list(found) == list(dict.fromkeys(method.name for method in suite.methods))
    assert len(set(found.values())) == len(found) and not set(found.values()) & set(OTHER_METHODS)
    for method in suite.methods:
        if method.name not in METHOD_SHADES:
            assert found[method.name] == METHOD_SHADES[method.settings[0].accelerator or ""]


def test_unknown_methods_and_variants_take_the_other_colours_in_turn() -> None:
    found = method_shades({"mine": "mine", "a": "uniform", "b": "uniform", "auto": "auto"})
    assert list(found) == ["mine", "a", "b", "auto"]
    assert (found["a"], found["auto"]) == (METHOD_SHADES["uniform"], METHOD_SHADES["auto"])
    assert (found["mine"], found["b"]) == OTHER_METHODS[:2]
    assert len(method_shades({str(index): "" for index in range(9)})) == 9


def test_colours_of_modes_come_in_the_order_of_the_legend() -> None:
    found = mode_colours(["reused", "mine", "full", "reused"])
    assert list(found) == ["full", "reused", "mine"]
    assert found["full"] == MODE_COLOURS["full"] and found["mine"] not in MODE_COLOURS.values()


def test_the_method_of_a_label_is_its_name_without_settings() -> None:
    labels = ("auto budget=25", "sada tokens=false + guidance", "uniform, quadratic", "./mine.py:Mine every=2", "plain")
    assert list(map(method_of, labels)) == ["auto", "sada", "uniform, quadratic", "./mine.py:Mine", "plain"]
