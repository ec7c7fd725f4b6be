"""The figure of an accelerated trajectory: criterion, modes and error of every step, and pruned tokens.

Needs matplotlib, the extra `plots`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..display.modes import mode_colours
from ..sampling.trace import Trace
from .comparison import Comparison
from .drawing import LEGEND, draw_modes, mode_patches, new_figure, rendered
from .style import BAND, FAINT, GRID, INK, TRAIL
from .trajectory_page import MOST_MASKS, Page

MOST_PROMPTS = 4
VEIL = (0.52, 0.54, 0.58)  # RGB laid over pruned tokens: it is visible on white and on black pictures
DASHES = (0, (4, 2))
DECADES = 6  # orders of magnitude that are shown of a signed criterion
DPI = 150


def draw_trajectory(comparison: Comparison, caption: str = "") -> Image.Image:
    """Draws the trajectories of a comparison, in a column per prompt (at most the first four).

    The panels are: the criterion with its threshold, the modes, the relative error of x0 against the plain run, and, if
    tokens were pruned, the image with the pruned tokens greyed at some of those steps. Panels that would be empty for
    all prompts are left out.

    Args:
        comparison: A comparison with traces.
        caption: Line at the foot.

    Returns:
        RGB picture.

    Raises:
        ValueError: If the comparison has no traces.
    """
    shown = min(MOST_PROMPTS, len(comparison.prompts))
    traces, plain = comparison.accelerated.traces[:shown], comparison.plain.traces[:shown]
    if len(traces) < shown or len(plain) < shown:
        raise ValueError("the comparison has no trajectories to draw; call compare(..., trace=True)")
    decided = any(bool(trace.criterion.isfinite().any()) for trace in traces)
    pruned = any(_pruned_steps(trace) for trace in traces)
    colours = mode_colours(mode for trace in traces for mode in trace.modes[0])
    legend = _legend(colours, traces[0] if decided else None, pruned)
    page = Page(shown, decided, pruned, *comparison.plain.images.shape[-2:], legend=len(legend))
    figure = new_figure(page.width, page.height, DPI)
    first: dict[str, Axes] = {}
    for column, trace in enumerate(traces):
        axes: dict[str, Axes] = {}
        for name in page.panels:
            axes[name] = figure.add_axes(
                page.panel(name, column), sharex=next(iter(axes.values()), None), sharey=first.get(name)
            )
        first = first or axes
        _frame(axes, len(trace.modes[0]), column == 0)
        if decided:
            _draw_criterion(axes["criterion"], trace, colours)
        draw_modes(axes["modes"], trace.modes[0], colours)
        axes["modes"].tick_params(length=0)
        _draw_error(axes["error"], trace, trace.x0_error(plain[column])[0], colours)
        if pruned:
            _draw_tokens(figure, page, column, trace, comparison.accelerated.images[column])
        _title(next(iter(axes.values())), comparison, column)
    if decided:
        _scale_criterion(first["criterion"], traces)
    _scale_error(first["error"])
    figure.legend(
        handles=legend, loc="upper left", bbox_to_anchor=(page.left / page.width, page.legend_top), fontsize=7,
        ncols=page.legend_columns, **LEGEND,
    )  # fmt: skip
    left_out = f"the first {shown} of {len(comparison.prompts)} prompts; " if shown < len(comparison.prompts) else ""
    figure.text(
        page.left / page.width, 0.12 / page.height, left_out + caption, fontsize=7, color=FAINT, parse_math=False
    )
    return rendered(figure)


def _pruned_steps(trace: Trace) -> list[int]:
    return [step for step, mask in enumerate(trace.tokens[0]) if mask is not None and not bool(mask.all())]


def _frame(axes: dict[str, Axes], steps: int, first: bool) -> None:
    for name, panel in axes.items():
        panel.set_xlim(-0.5, steps - 0.5)
        panel.tick_params(labelsize=7, colors=FAINT, labelcolor=INK, length=2)
        panel.tick_params(axis="x", labelbottom=name == "error", length=2 if name == "error" else 0)
        panel.tick_params(axis="y", labelleft=first, length=2 if first else 0)
        for side in panel.spines.values():
            side.set_visible(False)
        if name != "modes":
            panel.set_axisbelow(True)
            panel.grid(True, color=GRID, lw=0.6)
            panel.spines["left"].set(visible=True, color=FAINT, lw=0.6)
    axes["error"].locator_params(axis="x", integer=True)
    axes["error"].set_xlabel("step", fontsize=8, color=INK, labelpad=2)
    if first:
        axes["error"].set_ylabel("relative error of $x_0$", fontsize=8, color=INK)


def _title(axes: Axes, comparison: Comparison, index: int) -> None:
    fast, prompt = comparison.accelerated, " ".join(comparison.prompts[index].split())
    prompt = prompt if len(prompt) <= 48 else prompt[:45] + "..."
    nfe = f"{fast.nfe[index]:g} of {comparison.plain.nfe[index]:g} evaluations"
    cost = f"{comparison.accelerator}: {nfe}, PSNR {fast.psnr[index]:.1f} dB"
    axes.annotate(prompt, (0, 1), (0, 19), "axes fraction", "offset points", fontsize=10, color=INK, parse_math=False)
    axes.annotate(cost, (0, 1), (0, 7), "axes fraction", "offset points", fontsize=8, color=FAINT, parse_math=False)


def _draw_criterion(axes: Axes, trace: Trace, colours: dict[str, str]) -> None:
    values = trace.criterion[0].numpy()
    known = np.isfinite(values)
    for step in np.flatnonzero(~known):
        axes.axvspan(step - 0.5, step + 0.5, color=BAND, lw=0, zorder=0)
    if trace.threshold is not None:
        axes.axhline(trace.threshold, color=INK, lw=0.9, ls=DASHES, zorder=2)
    _dots(axes, known, values, trace, colours)


def _scale_criterion(axes: Axes, traces: Sequence[Trace]) -> None:
    """Scales the criterion logarithmically; if it has both signs, on both sides of a linear range around zero."""
    values = torch.cat([trace.criterion[0] for trace in traces]).numpy()
    values = values[np.isfinite(values) & (values != 0)]
    axes.set_ylabel(traces[0].criterion_name or "", fontsize=8, color=INK)
    below, above = bool((values < 0).any()), bool((values > 0).any())
    if above and not below and traces[0].threshold:
        axes.set_yscale("log")
        _ticks(axes)
    elif values.size:
        top = math.ceil(math.log10(np.abs(values).max()))
        bottom = max(math.floor(math.log10(np.abs(values).min())), top - DECADES)
        ticks = [10.0**power for power in range(top, bottom, -math.ceil((top - bottom) / 3))]
        axes.set_yscale("symlog", linthresh=10.0**bottom, linscale=0.5)
        axes.set_yticks([*(-tick for tick in ticks if below), 0.0, *(tick for tick in ticks if above)])
        edge = 10.0 ** (top + 0.3)
        axes.set_ylim(-edge if below else -(10.0**bottom), edge if above else 10.0**bottom)
    axes.yaxis.set_minor_locator(NullLocator())


def _scale_error(axes: Axes) -> None:
    if axes.collections:
        axes.set_yscale("log")
        _ticks(axes)


def _ticks(axes: Axes) -> None:
    """Marks decades; if there are few, also 2 and 5 times each, as plain numbers."""
    low, high = axes.get_ylim()
    few = math.log10(high / low) < 2.5
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    if few:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, at: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _draw_error(axes: Axes, trace: Trace, error: Tensor, colours: dict[str, str]) -> None:
    """Draws the error of x0. Steps without error, such as those before the first skip, are left out of the log axis."""
    values = error.numpy()
    if (values > 0).any():
        _dots(axes, values > 0, values, trace, colours)


def _dots(axes: Axes, shown: Any, values: Any, trace: Trace, colours: dict[str, str]) -> None:
    """Draws a line with gaps where nothing is shown, and a dot per step in the colour of its mode."""
    axes.plot(np.where(shown, values, np.nan), color=TRAIL, lw=0.7, zorder=1.5)
    steps = np.flatnonzero(shown)
    shades = [colours[trace.modes[0][step]] for step in steps]
    axes.scatter(steps, values[steps], s=17, c=shades, edgecolors=INK, linewidths=0.4, zorder=3)


def _draw_tokens(figure: Figure, page: Page, column: int, trace: Trace, image: Tensor) -> None:
    steps = _pruned_steps(trace)
    chosen = sorted({round(i) for i in np.linspace(0, len(steps) - 1, MOST_MASKS)}) if steps else []
    for cell, step in enumerate(steps[i] for i in chosen):
        axes = figure.add_axes(page.token_panel(column, cell))
        mask = trace.tokens[0][step]
        assert mask is not None
        axes.imshow(veiled(*_middle(image, mask)).permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"step {step}: {float(mask.float().mean()):.0%}", fontsize=7, color=INK, pad=3)


def _middle(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A picture and its mask; of a video (frames, 3, H, W) with a mask (T, h, w), those of the middle latent frame."""
    if mask.dim() == 2:
        return image, mask
    latent = len(mask) // 2
    return image[round(latent * (len(image) - 1) / max(1, len(mask) - 1))], mask[latent]


def veiled(image: Tensor, computed: Tensor) -> Tensor:
    """Greys the tokens that were not computed.

    Args:
        image: (3, H, W) in [0, 1].
        computed: Bool (h, w), one entry per token.

    Returns:
        (3, H, W) in [0, 1].
    """
    mask = F.interpolate(computed[None, None].float(), image.shape[-2:], mode="nearest")[0]
    return torch.where(mask > 0, image, 0.3 * image + 0.7 * torch.tensor(VEIL).view(3, 1, 1))


def _legend(colours: dict[str, str], decided: Trace | None, pruned: bool) -> list[Any]:
    handles = mode_patches(colours)
    if decided is not None:
        label = f"threshold {decided.threshold:g}: a step above it is evaluated"
        handles.append(Line2D([], [], color=INK, lw=0.9, ls=DASHES, label=label))
        handles.append(Patch(facecolor=BAND, edgecolor=TRAIL, lw=0.5, label="decided by the schedule"))
    if pruned:
        handles.append(Patch(color=VEIL, label="pruned tokens; % of tokens computed"))
    return handles
