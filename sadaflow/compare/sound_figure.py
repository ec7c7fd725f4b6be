"""The figure of a comparison of sounds: log-mel spectrograms, their difference, and the mode of every step.

Needs matplotlib, the extra `plots`.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from PIL.Image import Image

from ..display.modes import mode_colours
from .comparison import Comparison, evaluations
from .drawing import LEGEND, POINTS, draw_modes, legend_columns, mode_patches, new_figure, rendered
from .style import FAINT, INK

WIDTH, HEIGHT, FOOT = 11.0, 7.6, 0.7  # inches; HEIGHT is per prompt
DOTS = 100  # per inch
LETTERS = 13  # size of the legend's letters, in pixels
RATIOS = (5, 5, 5, 0.6)
MARKED = (250, 500, 1000, 2000, 4000, 8000)  # Hz


def draw_sound(
    comparison: Comparison, frame_seconds: float, caption: str = "", frequencies: Sequence[float] = ()
) -> Image:
    """Draws for each prompt, one above the other: plain, accelerated, their difference, and the mode of every step.

    The first two share a colour scale; the scale of the difference has 0 in its middle.

    Args:
        comparison: The comparison, of log-mel spectrograms (B, 1, frames, mels).
        frame_seconds: Seconds from one frame of a spectrogram to the next.
        caption: Line at the foot.
        frequencies: The frequency in Hz in the middle of each mel band. Without them bands are numbered.

    Returns:
        RGB picture.
    """
    count = len(comparison.prompts)
    colours = mode_colours(mode for modes in comparison.accelerated.modes for mode in modes)
    figure = new_figure(WIDTH, HEIGHT * count + FOOT, DOTS)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.06)
    for index, part in enumerate(figure.subfigures(count, 1, squeeze=False)[:, 0]):
        _draw_prompt(part, comparison, index, frame_seconds, colours, frequencies)
    columns = legend_columns(colours, LETTERS, (WIDTH - 0.5) * DOTS)
    legend = figure.legend(
        handles=mode_patches(colours), loc="outside lower center", ncols=columns, fontsize=LETTERS * POINTS / DOTS,
        title=caption, title_fontsize=9, **LEGEND | {"borderaxespad": 0.8},
    )  # fmt: skip
    legend.get_title().set(color=FAINT, parse_math=False)
    return rendered(figure)


def _draw_prompt(
    part: SubFigure,
    comparison: Comparison,
    index: int,
    frame_seconds: float,
    colours: dict[str, str],
    frequencies: Sequence[float],
) -> None:
    plain, fast = comparison.plain, comparison.accelerated
    before, after = (row.images[index, 0].T.numpy() for row in (plain, fast))
    difference = after - before
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    most = max(float(np.abs(difference).max()), 1e-6)
    part.suptitle(" ".join(comparison.prompts[index].split()), x=0.01, ha="left", fontsize=14, parse_math=False)
    first, second, third, strip = part.subplots(4, 1, height_ratios=RATIOS)
    panels = (
        (first, before, low, high, "magma", f"plain: {evaluations(plain, index)}"),
        (second, after, low, high, "magma", f"{comparison.accelerator}: {evaluations(fast, index)}"),
        (third, difference, -most, most, "RdBu_r", f"{comparison.accelerator} - plain: PSNR {fast.psnr[index]:.1f} dB"),
    )
    for axes, values, least, largest, colour, heading in panels:
        extent = (0.0, values.shape[1] * frame_seconds, 0.0, float(values.shape[0]))
        image = axes.imshow(
            values, cmap=colour, vmin=least, vmax=largest, extent=extent, origin="lower", aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        axes.set_title(heading, loc="left", fontsize=11, color=INK, parse_math=False)
        mark_bands(axes, frequencies)
        axes.tick_params(labelbottom=axes is third)
        part.colorbar(image, ax=axes, label="log amplitude" if axes is not third else "difference", pad=0.01)
        _dress(axes)
    third.set_xlabel("time (s)", color=INK)
    draw_modes(strip, fast.modes[index], colours)
    strip.set_xlabel("step (0 is noise)", color=INK)
    strip.locator_params(axis="x", integer=True)
    _dress(strip)


def mark_bands(axes: Axes, frequencies: Sequence[float]) -> None:
    """Labels the axis of mel bands, band i from i to i + 1, with frequencies if they are known."""
    axes.set_ylabel("frequency (Hz, mel scale)" if frequencies else "mel band", color=INK)
    if frequencies:
        marked = [hz for hz in MARKED if frequencies[0] <= hz <= frequencies[-1]]
        middles = np.arange(len(frequencies)) + 0.5
        axes.set_yticks(np.interp(marked, frequencies, middles), [f"{hz}" for hz in marked])


def _dress(axes: Axes) -> None:
    axes.tick_params(colors=FAINT, labelcolor=INK)
    axes.spines[:].set_color(FAINT)
