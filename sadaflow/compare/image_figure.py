"""The picture of a comparison: plain, accelerated, difference, and what was done at each step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..files.images import from_pil, to_image
from .comparison import Comparison, Row
from .style import FAINT, INK, PAPER, mode_colours, mode_meaning

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

PANEL = 320  # pixels: smaller images are shown enlarged by a whole factor
LOUDEST = 64  # the most that a difference is amplified


def amplification(difference: Tensor) -> int:
    """The largest power of two, at most 64, by which |difference| (..., in [0, 1]) can be shown without clipping."""
    largest, factor = float(difference.abs().max()), 1
    while factor < LOUDEST and largest * factor * 2 <= 1:
        factor *= 2
    return factor


@dataclass(frozen=True)
class _Layout:
    """Pixel sizes, all in proportion to the panels."""

    width: int  # of one panel
    height: int
    panels: int = 3

    @property
    def unit(self) -> int:
        return max(8, min(self.width, 3 * PANEL) // 20)

    @property
    def total_width(self) -> int:
        return self.panels * self.width + (self.panels + 1) * self.unit

    @property
    def row_height(self) -> int:
        return self.height + int(7.5 * self.unit)

    def font(self, scale: float = 1.0) -> "FreeTypeFont":
        from PIL import ImageFont

        font = ImageFont.load_default(size=self.unit * scale)
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise ImportError("drawing needs a Pillow that was built with FreeType, as its wheels are")
        return font


def draw(comparison: Comparison, caption: str = "", controls: Sequence["Image"] = ()) -> "Image":
    """One row per prompt: plain | accelerated | difference, over a strip with one coloured cell per step.

    The difference is |accelerated - plain|, amplified by the factor written above it. `controls`, what the ControlNets
    are shown, stand before it all, at the size that they are brought to. `caption` is a line at the foot.
    """
    from PIL import Image, ImageDraw

    height, width = comparison.plain.images.shape[-2:]
    zoom = max(1, round(PANEL / max(height, width)))
    layout = _Layout(width * zoom, height * zoom, 3 + len(controls))
    unit, rows_height = layout.unit, len(comparison.prompts) * layout.row_height
    colours = mode_colours(mode for modes in comparison.accelerated.modes for mode in modes)
    shown = [from_pil(control, (height, width)) for control in controls]
    legend, legend_height = _legend(layout, colours)
    foot = rows_height + legend_height + unit // 2
    canvas = Image.new("RGB", (layout.total_width, foot + (2 * unit if caption else 0)), PAPER)
    pen = ImageDraw.Draw(canvas)
    for index in range(len(comparison.prompts)):
        _draw_row(canvas, pen, layout, comparison, index, colours, shown)
    for left, top, mode, text in legend:
        box = (left, rows_height + top, left + unit, rows_height + top + unit)
        pen.rectangle(box, fill=colours[mode])
        pen.text((left + 1.4 * unit, box[1] + unit / 2), text, font=layout.font(0.85), fill=INK, anchor="lm")
    _text(pen, (unit, foot), caption, layout.font(0.85), FAINT, layout.total_width - 2 * unit)
    return canvas


def _draw_row(
    canvas: "Image",
    pen: "ImageDraw",
    layout: _Layout,
    comparison: Comparison,
    index: int,
    colours: dict[str, str],
    controls: Sequence[Tensor],
) -> None:
    from PIL.Image import Resampling

    unit, top, plain, fast = layout.unit, index * layout.row_height, comparison.plain, comparison.accelerated
    difference = (fast.images[index] - plain.images[index]).abs()
    factor = amplification(difference)
    cost = (evaluations(plain, index), evaluations(fast, index))
    fidelity = f"PSNR {fast.psnr[index]:.1f} dB, SSIM {fast.ssim[index]:.3f}"
    names = [f"control {i + 1}" if len(controls) > 1 else "control" for i in range(len(controls))]
    panels = (
        *((name, image, Resampling.LANCZOS) for name, image in zip(names, controls, strict=True)),
        (f"plain: {cost[0]}", plain.images[index], Resampling.LANCZOS),
        (f"{comparison.accelerator}: {cost[1]}", fast.images[index], Resampling.LANCZOS),
        (f"difference x{factor}: {fidelity}", difference * factor, Resampling.NEAREST),
    )
    room = layout.total_width - 2 * unit
    _text(pen, (unit, top + 0.7 * unit), comparison.prompts[index], layout.font(1.3), INK, room)
    for column, (heading, image, resampling) in enumerate(panels):
        left = unit + column * (layout.width + unit)
        _text(pen, (left, top + 2.6 * unit), heading, layout.font(0.85), INK, layout.width)
        canvas.paste(to_image(image).resize((layout.width, layout.height), resampling), (left, top + 4 * unit))
    _draw_strip(pen, layout, fast.modes[index], top + 4 * unit + layout.height + unit // 2, colours)


def evaluations(row: Row, index: int) -> str:
    """What a prompt cost, in words."""
    return f"{row.nfe[index]:g} evaluations, {row.seconds[index]:.2f} s"


def _draw_strip(pen: "ImageDraw", layout: _Layout, modes: Sequence[str], top: int, colours: dict[str, str]) -> None:
    """One cell per step, noise at the left; a gap of a pixel where cells are wide enough."""
    unit, width = layout.unit, layout.total_width - 2 * layout.unit
    gap = 1 if width / len(modes) >= 4 else 0
    for step, mode in enumerate(modes):
        left = unit + width * step // len(modes)
        right = unit + width * (step + 1) // len(modes) - 1 - gap
        pen.rectangle((left, top, right, top + unit), fill=colours[mode])
    font, below = layout.font(0.7), top + 1.2 * unit
    pen.text((unit, below), "step 0 (noise)", font=font, fill=FAINT)
    pen.text((unit + width, below), f"step {len(modes) - 1} (image)", font=font, fill=FAINT, anchor="ra")


def _legend(layout: _Layout, colours: dict[str, str]) -> tuple[list[tuple[int, int, str, str]], int]:
    """Places (left, top, mode, text) in as many lines as the width needs, and the height of all."""
    unit, font = layout.unit, layout.font(0.85)
    left, top, entries = unit, unit // 2, []
    for mode in colours:
        text = mode_meaning(mode)
        width = int(1.4 * unit + font.getlength(text))
        if left > unit and left + width > layout.total_width - unit:
            left, top = unit, top + 2 * unit
        entries.append((left, top, mode, text))
        left += width + 2 * unit
    return entries, top + 2 * unit


def _text(pen: "ImageDraw", at: tuple[float, float], text: str, font: "FreeTypeFont", fill: str, room: float) -> None:
    """Text on one line, cut with an ellipsis where it would not fit."""
    text = " ".join(text.split())
    if pen.textlength(text, font=font) > room:
        while text and pen.textlength(text + "...", font=font) > room:
            text = text[:-1]
        text += "..."
    pen.text(at, text, font=font, fill=fill)
