"""Pieces of HTML for notebooks: tables, pictures, sounds, and the modes of every step as a strip."""

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Final

from .modes import mode_colours, mode_meaning

_MOST_ROWS: Final = 8
_STEP, _ROW = 8, 12  # pixels of a step and of a row of a strip
_NARROWEST: Final = 320  # pixels of a strip


def panel(title: str, *parts: str) -> str:
    """A titled block of parts; empty parts are left out."""
    return f'<div style="max-width:60em"><strong>{escape(title)}</strong>{"".join(parts)}</div>'


def table(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values."""
    cells = "".join(
        f'<tr><td style="text-align:left">{escape(name)}</td><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table style="margin:0.3em 0">{cells}</table>'


def picture(png: bytes, text: str, width: int) -> str:
    """A picture within the page.

    Args:
        png: Content of a PNG file.
        text: What it shows, for readers who do not see it.
        width: Width in pixels at which it is shown; pixels stay square and sharp.
    """
    return (
        f'<img alt="{escape(text)}" width="{width}" style="margin:2px;image-rendering:pixelated;display:inline-block" '
        f'src="{_data("image/png", png)}">'
    )


def sound(wav: bytes) -> str:
    """A player for the content of a WAV file."""
    return f'<audio controls style="display:block;margin:4px 0" src="{_data("audio/wav", wav)}"></audio>'


def strip(modes: Sequence[Sequence[str]]) -> str:
    """What was done at each step, as a row of colours per sample (at most the first eight) with a legend.

    Args:
        modes: `modes[sample][step]`.
    """
    shown = modes[:_MOST_ROWS]
    steps = max(map(len, shown), default=0)
    if steps == 0:
        return ""
    colours = mode_colours(mode for row in shown for mode in row)
    cells = "".join(_row(row, index, colours) for index, row in enumerate(shown))
    across, high = steps * _STEP, len(shown) * _ROW
    drawing = (
        f'<svg viewBox="0 0 {across} {high}" width="{max(across, _NARROWEST)}" height="{high}" style="max-width:100%" '
        f'preserveAspectRatio="none" role="img" aria-label="modes of {steps} steps">{cells}</svg>'
    )
    entries = "".join(
        f'<span style="margin-right:1em;white-space:nowrap"><span style="background:{colour};display:inline-block;'
        f'width:0.8em;height:0.8em"></span> {escape(mode_meaning(mode))}</span>'
        for mode, colour in colours.items()
    )
    legend = f'<div style="font-size:85%">{entries}{more(len(modes), len(shown))}</div>'
    return f'<div style="margin:4px 0">{drawing}{legend}</div>'


def more(all_of_them: int, shown: int) -> str:
    """Says how many samples are not shown; "" if all are."""
    return f"<span>and {all_of_them - shown} more samples</span>" if all_of_them > shown else ""


def counted(modes: Sequence[Sequence[str]]) -> str:
    """How often each mode occurs per sample in the mean, as in "full 23.5, extrapolated 26.5"."""
    counts = Counter(mode for row in modes for mode in row)
    return ", ".join(f"{mode} {counts[mode] / len(modes):.3g}" for mode in mode_colours(counts))


def _row(modes: Sequence[str], index: int, colours: dict[str, str]) -> str:
    drawn, step = [], 0
    for mode, run in groupby(modes):
        length = len(list(run))
        box = f'x="{step * _STEP}" y="{index * _ROW}" width="{length * _STEP}" height="{_ROW - 2}"'
        drawn.append(f'<rect {box} fill="{colours[mode]}"><title>{escape(_steps(step, length, mode))}</title></rect>')
        step += length
    return "".join(drawn)


def _steps(first: int, length: int, mode: str) -> str:
    return f"step {first}: {mode}" if length == 1 else f"steps {first} to {first + length - 1}: {mode}"


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
