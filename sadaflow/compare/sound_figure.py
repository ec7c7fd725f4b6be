"""The picture of a comparison of sounds: log-mel spectrograms, their difference, and the mode of every step."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from .comparison import Comparison
from .image_figure import evaluations
from .style import FAINT, INK, mode_colours, mode_meaning

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from PIL.Image import Image

WIDTH, HEIGHT, FOOT = 11.0, 7.6, 0.7  # inches, the height for each prompt
DOTS = 100  # per inch
RATIOS = (5, 5, 5, 0.6)


def draw_sound(comparison: Comparison, frame_seconds: float, caption: str = "") -> "Image":
    """Per prompt, one above the other: plain, accelerated, their difference, and a strip with one cell per step.

    The first two share a colour scale; that of the difference has 0 in its middle. A spectrogram's frame lasts
    `frame_seconds`. `caption` is a line at the foot. ImportError that names the extra without matplotlib.
    """
    from PIL import Image

    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError as error:
        raise ImportError("drawing spectrograms needs the extra: pip install 'sadaflow[plots]'") from error

    count = len(comparison.prompts)
    colours = mode_colours(mode for modes in comparison.accelerated.modes for mode in modes)
    figure = Figure(figsize=(WIDTH, HEIGHT * count + FOOT), dpi=DOTS)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.06)
    for index, part in enumerate(figure.subfigures(count, 1, squeeze=False)[:, 0]):
        _draw_prompt(part, comparison, index, frame_seconds, colours)
    patches = [Patch(color=colour, label=mode_meaning(mode)) for mode, colour in colours.items()]
    legend = figure.legend(
        handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, title=caption, title_fontsize=9
    )
    legend.get_title().set(color=FAINT, parse_math=False)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a prompt in a script that the font does not have
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _draw_prompt(
    part: "SubFigure", comparison: Comparison, index: int, frame_seconds: float, colours: dict[str, str]
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
        axes.set_ylabel("mel band")
        axes.tick_params(labelbottom=axes is third)
        part.colorbar(image, ax=axes, label="log amplitude" if axes is not third else "difference", pad=0.01)
    third.set_xlabel("time (s)")
    _draw_strip(strip, fast.modes[index], colours)


def _draw_strip(axes: "Axes", modes: tuple[str, ...], colours: dict[str, str]) -> None:
    axes.bar(range(len(modes)), 1, width=0.9, color=[colours[mode] for mode in modes])
    axes.set(xlim=(-0.5, len(modes) - 0.5), ylim=(0, 1), yticks=[], xlabel="step (0 is noise)")
    axes.locator_params(axis="x", integer=True)
    axes.spines[:].set_visible(False)
