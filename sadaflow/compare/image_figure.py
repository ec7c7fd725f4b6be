"""The figure of a comparison of pictures: plain, accelerated, difference, and the mode of every step.

Needs matplotlib, the extra `plots`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL.Image import Image, Resampling
from torch import Tensor

from ..display.modes import mode_colours
from ..files.images import from_pil, to_image
from .comparison import Comparison, amplification, evaluations
from .drawing import LEGEND, POINTS, fitted_text, legend_columns, mode_patches, new_figure, rendered
from .style import FAINT, INK

PANEL = 320  # pixels: smaller pictures are shown enlarged by a whole factor
LETTERS = 0.8  # size of most letters, in units of the layout
DPI = 128  # a power of two, so that sizes in inches give whole pixels


@dataclass(frozen=True)
class Layout:
    """Sizes in pixels, all in proportion to the panels.

    Attributes:
        width: Width of a panel.
        height: Height of a panel.
        panels: Number of panels side by side.
        rows: Number of prompts.
        legend: Lines of the legend.
        caption: Whether there is a line at the foot.
    """

    width: int
    height: int
    panels: int
    rows: int
    legend: int = 0
    caption: bool = False

    @property
    def unit(self) -> int:
        """Height of a strip and distance between panels; text is in proportion to it."""
        return max(8, min(self.width, 3 * PANEL) // 20)

    @property
    def room(self) -> int:
        return self.panels * (self.width + self.unit) - self.unit

    @property
    def total_width(self) -> int:
        return self.room + 2 * self.unit

    @property
    def row_height(self) -> int:
        return self.height + int(7.5 * self.unit)

    @property
    def foot(self) -> int:
        """Top of the caption."""
        return self.rows * self.row_height + int((1.4 * self.legend + 0.7) * self.unit)

    @property
    def total_height(self) -> int:
        return self.foot + (2 * self.unit if self.caption else 0)


class Page:
    """A figure on which positions are in pixels from the top left corner."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.figure: Figure = new_figure(layout.total_width / DPI, layout.total_height / DPI, DPI)

    def paste(self, pixels: Any, left: int, top: int) -> None:
        """Puts pixels (height, width, 3), uint8, on the page unchanged."""
        bottom = self.layout.total_height - top - pixels.shape[0]
        self.figure.figimage(pixels, left, bottom, origin="upper")

    def write(self, text: str, at: tuple[float, float], scale: float, room: float, **style: Any) -> None:
        """Writes one line of text, cut to `room` pixels; `scale` is the size of letters in units of the layout."""
        size = scale * self.layout.unit
        left, top = at[0] / self.layout.total_width, 1 - at[1] / self.layout.total_height
        style = {"va": "top", "color": INK, "fontsize": size * POINTS / DPI, "parse_math": False, **style}
        self.figure.text(left, top, fitted_text(text, size, room), **style)


def draw(
    comparison: Comparison,
    caption: str = "",
    controls: Sequence[Image] = (),
    inputs: Mapping[str, Sequence[Image]] = MappingProxyType({}),
) -> Image:
    """Draws a row for each prompt: plain | accelerated | difference, over a strip with one coloured cell per step.

    The difference is |accelerated - plain|, amplified by the factor written above it.

    Args:
        comparison: The comparison, of pictures (B, 3, H, W) in [0, 1].
        caption: Line at the foot.
        controls: Pictures that the ControlNets are shown. They stand before the others, at the size of the samples.
        inputs: Pictures that the samples start from and their masks, by heading: one for all prompts, or one for each.

    Returns:
        RGB picture.
    """
    height, width = comparison.plain.images.shape[-2:]
    zoom = max(1, round(PANEL / max(height, width)))
    colours = mode_colours(mode for modes in comparison.accelerated.modes for mode in modes)
    layout = Layout(width * zoom, height * zoom, 3 + len(controls) + len(inputs), len(comparison.prompts))
    size = LETTERS * layout.unit
    columns = legend_columns(colours, size, layout.room)
    layout = replace(layout, legend=-(-len(colours) // columns), caption=bool(caption))
    page = Page(layout)
    names = [f"control {i + 1}" if len(controls) > 1 else "control" for i in range(len(controls))]
    given = {**dict(inputs), **{name: [control] for name, control in zip(names, controls, strict=True)}}
    shown = {name: [from_pil(picture, (height, width)) for picture in pictures] for name, pictures in given.items()}
    for index in range(len(comparison.prompts)):
        _draw_row(page, comparison, index, colours, {name: of[index % len(of)] for name, of in shown.items()})
    draw_legend(page, colours, columns, size)
    page.write(caption, (layout.unit, layout.foot), LETTERS, layout.room, color=FAINT)
    return rendered(page.figure)


def _draw_row(
    page: Page, comparison: Comparison, index: int, colours: dict[str, str], given: Mapping[str, Tensor]
) -> None:
    layout, plain, fast = page.layout, comparison.plain, comparison.accelerated
    unit, top = layout.unit, index * layout.row_height
    difference = (fast.images[index] - plain.images[index]).abs()
    factor = amplification(difference)
    panels = (
        *((name, image, Resampling.LANCZOS) for name, image in given.items()),
        (f"plain: {evaluations(plain, index)}", plain.images[index], Resampling.LANCZOS),
        (f"{comparison.accelerator}: {evaluations(fast, index)}", fast.images[index], Resampling.LANCZOS),
        (
            f"difference x{factor}: PSNR {fast.psnr[index]:.1f} dB, SSIM {fast.ssim[index]:.3f}",
            difference * factor,
            Resampling.NEAREST,
        ),
    )
    page.write(comparison.prompts[index], (unit, top + 0.7 * unit), 1.2, layout.room)
    for column, (heading, image, resampling) in enumerate(panels):
        left = unit + column * (layout.width + unit)
        page.write(heading, (left, top + 2.7 * unit), LETTERS, layout.width)
        panel = to_image(image).resize((layout.width, layout.height), resampling)
        page.paste(framed(np.asarray(panel)), left - 1, top + 4 * unit - 1)
    modes, strip = fast.modes[index], top + 4 * unit + layout.height + unit // 2
    page.paste(mode_strip(modes, (layout.room, unit), colours), unit, strip)
    below = strip + 1.2 * unit
    page.write("step 0 (noise)", (unit, below), 0.65, layout.room, color=FAINT)
    last = f"step {len(modes) - 1} (image)"
    page.write(last, (unit + layout.room, below), 0.65, layout.room, color=FAINT, ha="right")


def framed(pixels: Any) -> Any:
    """Pixels (height, width, 3) in a grey frame of one pixel, so that white pictures have an edge on a white page."""
    return np.pad(pixels, ((1, 1), (1, 1), (0, 0)), constant_values=204)


def mode_strip(modes: Sequence[str], size: tuple[int, int], colours: dict[str, str]) -> Any:
    """Returns a strip of one cell per step, noise at the left, as pixels.

    Args:
        modes: Mode of each step.
        size: Width and height in pixels. Cells of at least 4 pixels have a white pixel between them.
        colours: Colour of each mode, as "#rrggbb".

    Returns:
        Array (height, width, 3), uint8.
    """
    width, height = size
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    gap = int(width / len(modes) >= 4)
    for step, mode in enumerate(modes):
        left, right = width * step // len(modes), width * (step + 1) // len(modes) - gap
        pixels[:, left:right] = list(bytes.fromhex(colours[mode][1:]))
    return pixels


def draw_legend(page: Page, colours: dict[str, str], columns: int, size: float) -> None:
    """Draws the meaning of the modes below all rows, in `columns` columns and letters of `size` pixels."""
    layout = page.layout
    at = (layout.unit / layout.total_width, 1 - layout.rows * layout.row_height / layout.total_height)
    page.figure.legend(
        handles=mode_patches(colours), loc="upper left", bbox_to_anchor=at, ncols=columns,
        fontsize=size * POINTS / DPI, **LEGEND,
    )  # fmt: skip
