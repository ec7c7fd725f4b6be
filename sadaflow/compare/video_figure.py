"""The figure of a comparison of videos: frames of the plain, the accelerated and their difference, one above another.

Needs matplotlib, the extra `plots`.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL.Image import Image, Resampling

from ..display.modes import mode_colours
from ..files.images import to_image
from ..files.video import strip
from .comparison import Comparison, amplification, evaluations
from .drawing import legend_columns, rendered
from .image_figure import LETTERS, Layout, Page, draw_legend, mode_strip
from .style import FAINT

FRAMES = 6
"""Frames that are shown of a video, evenly spaced from the first to the last."""
_SIDE = 240  # pixels: smaller frames are shown enlarged by a whole factor
_STRIPS = 3


@dataclass(frozen=True)
class _Layout(Layout):
    """A row of the figure has three strips of frames, each below a line of text, and the modes."""

    @property
    def row_height(self) -> int:
        return _STRIPS * (self.height + 2 * self.unit) + 6 * self.unit

    def strip_top(self, row: int, index: int) -> int:
        """Top of the strip `index` of a row."""
        return row * self.row_height + 4 * self.unit + index * (self.height + 2 * self.unit)


def draw_videos(comparison: Comparison, caption: str = "") -> Image:
    """Draws for each prompt strips of frames: plain, accelerated, difference; and a coloured cell for each step.

    The difference is |accelerated - plain|, amplified by the factor written above it.

    Args:
        comparison: The comparison, of videos (B, frames, 3, H, W) in [0, 1].
        caption: Line at the foot.

    Returns:
        RGB picture.
    """
    frames, _, height, width = comparison.plain.images.shape[1:]
    zoom = max(1, round(_SIDE / max(height, width)))
    colours = mode_colours(mode for modes in comparison.accelerated.modes for mode in modes)
    layout = _Layout(min(FRAMES, frames) * width * zoom, height * zoom, 1, len(comparison.prompts))
    size = LETTERS * layout.unit
    columns = legend_columns(colours, size, layout.room)
    layout = replace(layout, legend=-(-len(colours) // columns), caption=bool(caption))
    page = Page(layout)
    for index in range(len(comparison.prompts)):
        _draw_row(page, layout, comparison, index, colours)
    draw_legend(page, colours, columns, size)
    page.write(caption, (layout.unit, layout.foot), 0.65, layout.room, color=FAINT)
    return rendered(page.figure)


def _draw_row(page: Page, layout: _Layout, comparison: Comparison, row: int, colours: dict[str, str]) -> None:
    plain, fast, unit = comparison.plain, comparison.accelerated, layout.unit
    difference = (fast.images[row] - plain.images[row]).abs()
    factor = amplification(difference)
    fidelity = f"PSNR {fast.psnr[row]:.1f} dB, worst frame {fast.worst_frame[row]:.1f}, SSIM {fast.ssim[row]:.3f}"
    page.write(comparison.prompts[row], (unit, row * layout.row_height + 0.7 * unit), 1.2, layout.room)
    for index, (heading, video) in enumerate(
        (
            (f"plain: {evaluations(plain, row)}", plain.images[row]),
            (f"{comparison.accelerator}: {evaluations(fast, row)}", fast.images[row]),
            (f"difference x{factor}: {fidelity}", difference * factor),
        )
    ):
        top = layout.strip_top(row, index)
        page.write(heading, (unit, top - 1.3 * unit), LETTERS, layout.room)
        panel = to_image(strip(video, FRAMES)).resize((layout.width, layout.height), Resampling.NEAREST)
        page.paste(np.asarray(panel), unit, top)
    modes, below = fast.modes[row], layout.strip_top(row, _STRIPS) - int(1.5 * unit)
    page.paste(mode_strip(modes, (layout.room, unit), colours), unit, below)
    page.write("step 0 (noise)", (unit, below + 1.2 * unit), 0.65, layout.room, color=FAINT)
    last = f"step {len(modes) - 1} (video)"
    page.write(last, (unit + layout.room, below + 1.2 * unit), 0.65, layout.room, color=FAINT, ha="right")
