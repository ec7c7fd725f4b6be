"""Fronts of fidelity over cost as figures: one per model and solver, a panel per number of steps below each other.

A figure is 7.2 inches wide, so that its letters are 12 pixels high at the 720 pixels of a page of text. Needs
matplotlib, the extra `plots`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...compare.drawing import new_figure
from ...compare.style import FAINT, GRID, INK, PAPER, TRAIL
from ..run.lines import Record
from ..suite.model import Case, Suite
from .curves import HALF, Compared, fidelity_label, shades, spread
from .fronts import Row, rows

DPI = 200
WIDTH = 7.2  # inches
LETTERS = 9  # points
LINE = 0.165  # inches between names
MEAN: Any = {"ls": "-", "lw": 1.8}
WORST: Any = {"ls": (0, (3, 2)), "lw": 1.0}
NAMES = 0.42  # width of the space for names, as a share of the width over which costs are drawn


def draw_fronts(suite: Suite, records: Sequence[Record]) -> Iterator[tuple[str, Figure]]:
    """Draws a figure for each model and solver with measurements of a setting beside the plain run.

    Args:
        suite: The suite that was measured.
        records: Lines of `samples.jsonl`.

    Yields:
        Name of the file without its ending, and the figure.
    """
    several = len({case.model for case in suite.cases}) > 1
    for model, solver in dict.fromkeys((case.model, case.solver) for case in suite.cases):
        cases = [case for case in suite.cases if (case.model, case.solver) == (model, solver)]
        panels = [(case, table) for case in cases if len(table := rows(suite, case, records)) > 1]
        if panels:
            name = "-".join(["fronts", *([model] if several else []), solver])
            yield re.sub(r"[^\w.=-]+", "-", name), _figure(suite, panels)  # of "./mine.py:Mine", too


def _figure(suite: Suite, panels: Sequence[tuple[Case, list[Row]]]) -> Figure:
    colours = {method: shade.light for method, shade in shades(suite).items()}
    height = max(2.9, LINE * len(colours) + 0.3)
    figure = new_figure(WIDTH, 0.7 + (height + 0.55) * len(panels), DPI)
    figure.set_layout_engine("constrained", h_pad=0.06)
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for panel, (case, table) in zip(axes, panels, strict=True):
        _draw_panel(panel, case, table, colours, height)
    key = [axes[0].plot([], [], color=INK, label=text, **style)[0]
           for style, text in ((MEAN, "mean"), (WORST, "worst sample"))]  # fmt: skip
    figure.legend(
        handles=key, loc="outside lower right", ncols=2, fontsize=LETTERS, frameon=False, labelcolor=INK,
        handlelength=2.6,
    )  # fmt: skip
    case = panels[0][0]
    guidance = "" if case.guidance is None else f", guidance {case.guidance:g}"
    title = f"{case.model}, {case.solver}{guidance}, {len(suite.samples_of(case))} samples"
    figure.suptitle(title, x=0.01, ha="left", fontsize=LETTERS + 2, color=INK)
    return figure


def _draw_panel(panel: Axes, case: Case, table: Sequence[Row], colours: Mapping[str, str], height: float) -> None:
    compared = Compared.of(table)
    for method, colour in reversed(list(colours.items())):  # the suite's first method on top
        for worst, style, size in ((True, WORST, 3.0), (False, MEAN, 4.5)):
            drawn = compared.curve(method, worst=worst)
            if drawn.beaten:
                panel.plot(*zip(*drawn.beaten, strict=True), ls="", marker="o", ms=size, mfc=PAPER, mec=colour, mew=0.8)
            if drawn.best:
                best = zip(*drawn.best, strict=True)
                panel.plot(*best, color=colour, marker="o", ms=size, mec=PAPER, mew=0.6, **style)
    costs = [compared.point(row, worst=False).cost for row in compared.rows]
    _dress(panel, min(costs, default=HALF), max(costs, default=HALF), compared.axis)
    panel.set_title(f"{case.steps} steps", fontsize=LETTERS + 1, color=INK, loc="left")
    panel.set_ylabel(fidelity_label(table), fontsize=LETTERS, color=INK)
    panel.axvline(HALF, color=TRAIL, lw=0.8, zorder=0)
    panel.annotate(
        "half the cost", (HALF, 0), (3, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
        fontsize=LETTERS - 1, color=FAINT, annotation_clip=True,
    )  # fmt: skip
    _name_fronts(panel, compared, colours, LINE / height)


def _dress(panel: Axes, left: float, right: float, label: str) -> None:
    """Sets the axes for costs from `left` to `right` in %, with space for the names at the right."""
    left, right = min(left, right - 4), max(right, left + 4)
    margin = 0.05 * (right - left)
    width = right - left + 2 * margin
    panel.set_xlim(left - margin, left - margin + (1 + NAMES) * width)
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10], integer=True).tick_values(left, right)
    panel.set_xticks([tick for tick in ticks if left - margin <= tick <= right + margin])
    panel.spines["bottom"].set_bounds(left - margin, right + margin)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.grid(True, axis="y", color=GRID, lw=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(colors=INK, labelsize=LETTERS, length=3)
    panel.set_xlabel(label, fontsize=LETTERS, color=INK, loc="left")


def _name_fronts(panel: Axes, compared: Compared, colours: Mapping[str, str], line: float) -> None:
    """Writes each method's name to the right of the end of its solid line, apart from the other names.

    Args:
        panel: The panel, with its curves.
        compared: Settings of the case.
        colours: Colour of each method.
        line: Distance between names, as a share of the panel's height.
    """
    fronts = {method: compared.curve(method, worst=False).best for method in colours}
    ends = {method: best[-1] for method, best in fronts.items() if best}
    low, high = panel.get_ylim()
    left, right = panel.get_xlim()
    at = right - (right - left) * NAMES / (1 + NAMES)
    heights = spread([(end.fidelity - low) / (high - low) for end in ends.values()], line)
    for (method, end), height in zip(ends.items(), heights, strict=True):
        arrow = {"arrowstyle": "-", "color": colours[method], "lw": 0.5, "alpha": 0.5, "shrinkA": 1, "shrinkB": 3}
        panel.annotate(
            method, end, (at, low + height * (high - low)), fontsize=LETTERS, color=colours[method], va="center",
            arrowprops=arrow,
        )  # fmt: skip
