"""What was done at every step of every sample, as a picture of one pixel a step and a row a sample."""

import io
from collections.abc import Mapping, Sequence

from ...compare.style import mode_colours
from ..run.folder import Record
from ..run.sweep import LETTERS
from ..suite.model import Sample

MODES = {letter: mode.value for mode, letter in LETTERS.items()}


def strip(records: Sequence[Record], samples: Sequence[Sample], colours: Mapping[str, str]) -> bytes:
    """PNG of steps x samples, transparent where a sample was not measured; `colours` by mode."""
    from PIL import Image

    found = {(record["prompt"], record["seed"]): record["modes"] for record in records}
    image = Image.new("P", (max(map(len, found.values())), len(samples)))
    image.putpalette([0, 0, 0, *(value for colour in colours.values() for value in bytes.fromhex(colour[1:]))])
    index = {letter: list(colours).index(mode) + 1 for letter, mode in MODES.items() if mode in colours}
    for row, sample in enumerate(samples):
        for step, letter in enumerate(found.get((sample.prompt, sample.seed), "")):
            image.putpixel((step, row), index[letter])
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True, transparency=0)
    return content.getvalue()


def colours_of(records: Sequence[Record]) -> dict[str, str]:
    """Colours of all modes that occur, by mode, in the order of the key."""
    return mode_colours({MODES[letter] for record in records for letter in set(record["modes"])})

