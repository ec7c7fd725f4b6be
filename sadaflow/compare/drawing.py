"""What the figures share: a matplotlib figure without a window, text that is measured, strips and legends of modes.

Needs matplotlib, the extra `plots`.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..display.modes import mode_meaning
from .style import INK

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import Patch
except ImportError as error:
    raise ImportError("figures need matplotlib: pip install 'sadaflow[plots]'") from error

POINTS = 72  # per inch
# Style of legends; lengths are in units of the font size.
LEGEND: Any = {
    "frameon": False, "labelcolor": INK, "handlelength": 1.2, "handleheight": 1.2, "handletextpad": 0.6,
    "columnspacing": 1.5, "labelspacing": 0.5, "borderpad": 0, "borderaxespad": 0,
}  # fmt: skip


def new_figure(width: float, height: float, dpi: float) -> Figure:
    """Returns an empty figure of `width` x `height` inches with `dpi` pixels per inch, drawn by Agg."""
    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def rendered(figure: Figure) -> Image.Image:
    """Draws the figure as an RGB picture. Characters that the font does not have are drawn as boxes."""
    canvas: Any = figure.canvas
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def text_width(text: str, size: float) -> float:
    """Returns the width of `text` in pixels, in the default font with letters of `size` pixels."""
    renderer = RendererAgg(1, 1, POINTS)  # one pixel per point
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        return float(renderer.get_text_width_height_descent(text, FontProperties(size=size), False)[0])


def fitted_text(text: str, size: float, room: float) -> str:
    """Returns `text` on one line, cut with "..." so that it is at most `room` pixels wide in letters of `size`."""
    text = " ".join(text.split())
    if text_width(text, size) <= room:
        return text
    low, high = 0, len(text)  # the first `low` characters fit, the first `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if text_width(text[:middle] + "...", size) <= room else (low, middle)
    return text[:low] + "..."


def draw_modes(axes: Axes, modes: Sequence[str], colours: Mapping[str, str]) -> None:
    """Fills `axes` with one bar per step in the colour of its mode, noise at the left."""
    axes.bar(range(len(modes)), 1, width=0.9, color=[colours[mode] for mode in modes])
    axes.set(xlim=(-0.5, len(modes) - 0.5), ylim=(0, 1), yticks=[])
    axes.spines[:].set_visible(False)


def mode_patches(colours: Mapping[str, str]) -> list[Any]:
    """Returns the legend entries of modes: a patch of the colour, and what is done in the mode."""
    return [Patch(color=colour, label=mode_meaning(mode)) for mode, colour in colours.items()]


def legend_columns(colours: Mapping[str, str], size: float, room: float) -> int:
    """Returns how many columns of a legend of modes fit into `room` pixels, with letters of `size` pixels."""
    entry = size * (LEGEND["handlelength"] + LEGEND["handletextpad"])
    entry += max(text_width(mode_meaning(mode), size) for mode in colours)
    space = size * LEGEND["columnspacing"]
    return min(len(colours), max(1, int((room + space) // (entry + space))))
