"""The mode of each step as an image: one pixel per step, one row per sample."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...display.modes import mode_colours
from ..run.lines import Record
from ..run.sweep import LETTERS
from ..suite.model import Sample
from .fronts import Row

MODES = {letter: mode.value for mode, letter in LETTERS.items()}


@dataclass(frozen=True)
class Strip:
    """The modes of a setting.

    Attributes:
        label: The setting.
        cost: Mean network evaluations.
        png: The image, steps x samples pixels.
        height: Height to show it at, in pixels.
    """

    label: str
    cost: float
    png: bytes
    height: int


def mode_strips(
    samples: Sequence[Sample], table: Sequence[Row], records: Sequence[Record]
) -> tuple[dict[str, str], list[Strip]]:
    """Draws a strip for every accelerated setting; the others run the network in full at each of their steps.

    Args:
        samples: Samples of the case.
        table: Rows of a case, in the order to show.
        records: Lines of `samples.jsonl` of that case.

    Returns:
        Colour of each mode that occurs, in the order of the key, and the strips.
    """
    by_setting: dict[str, list[Record]] = {}
    for record in records:
        if set(record["modes"]) != {"F"}:
            by_setting.setdefault(record["setting"], []).append(record)
    accelerated = [record for some in by_setting.values() for record in some]
    colours = mode_colours(MODES[letter] for record in accelerated for letter in record["modes"])
    height = min(max(4 * len(samples), 12), 160)
    return colours, [
        Strip(label, row.cost, strip(by_setting[label], samples, colours), height)
        for row in table
        if (label := row.setting.label) in by_setting
    ]


def strip(records: Sequence[Record], samples: Sequence[Sample], colours: Mapping[str, str]) -> bytes:
    """Draws the modes of a setting.

    Args:
        records: Lines of `samples.jsonl` of the setting; `modes` holds one letter per step.
        samples: All samples of the case, one row each. Rows that were not measured are transparent.
        colours: Colour of each mode, as "#rrggbb".

    Returns:
        PNG file of steps x samples pixels.
    """
    from PIL import Image

    found = {(record["prompt"], record["seed"]): record["modes"] for record in records}
    letters = {letter: list(colours).index(mode) + 1 for letter, mode in MODES.items() if mode in colours}
    pixels = np.zeros((len(samples), max(map(len, found.values()))), dtype=np.uint8)
    for row, sample in enumerate(samples):
        for step, letter in enumerate(found.get((sample.prompt, sample.seed), "")):
            pixels[row, step] = letters[letter]
    image = Image.fromarray(pixels)
    image.putpalette([0, 0, 0, *(value for colour in colours.values() for value in bytes.fromhex(colour[1:]))])
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True, transparency=0)
    return content.getvalue()
