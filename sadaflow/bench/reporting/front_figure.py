"""Fronts of fidelity over cost: one picture per model and solver, a panel per number of steps."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from ..run.folder import Record
from ..suite.model import PLAIN, Case, Suite
from .fronts import CEILING, Point, Row, front, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, two greys and three of Tol's, in the order of the suite's methods.
COLOURS = (
    "#d55e00", "#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#555555", "#a6a6a6", "#e69f00", "#f0e442",
    "#882255", "#44aa99", "#999933",
)  # fmt: skip
INK, FAINT = "#222222", "#777777"
MEAN: Any = {"ls": "-", "lw": 1.8}
WORST: Any = {"ls": (0, (3, 2)), "lw": 1.0}
NAME_HEIGHT = 0.05  # of a panel's height: what a line of text takes
NAMES = 0.5  # of the width over which costs are drawn: the room for names


def draw_fronts(suite: Suite, records: Sequence[Record]) -> Iterator[tuple[str, "Figure"]]:
    """Name and figure of every picture for which there are measurements of an accelerated or coarser run."""
    several = len({case.model for case in suite.cases}) > 1
    for model, solver in dict.fromkeys((case.model, case.solver) for case in suite.cases):
        cases = [case for case in suite.cases if (case.model, case.solver) == (model, solver)]
        panels = [(case, table) for case in cases if len(table := rows(suite, case, records)) > 1]
        if panels:
            name = "-".join(["fronts", *([model.replace("/", "-")] if several else []), solver])
            yield name, _figure(suite, panels)


def _figure(suite: Suite, panels: Sequence[tuple[Case, list[Row]]]) -> "Figure":
    from matplotlib.figure import Figure

    colours = dict(zip(dict.fromkeys(method.name for method in suite.methods), cycle(COLOURS), strict=False))
    figure = Figure(figsize=(1.0 + 4.4 * len(panels), 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (case, table) in zip(axes, panels, strict=True):
        _panel(panel, case, table, colours)
    for panel, (_, table) in zip(axes, panels, strict=True):  # once the common height is known
        _name_fronts(panel, table, colours)
    case, table = panels[0]
    pictured = table[0].ssim is not None
    axes[0].set_ylabel("PSNR against the plain run (dB)" if pictured else "latent SNR (dB)", fontsize=9, color=INK)
    key = [axes[0].plot([], [], color=INK, label=text, **style)[0]
           for style, text in ((MEAN, "mean"), (WORST, "worst sample"))]  # fmt: skip
    figure.legend(handles=key, loc="upper right", ncols=2, fontsize=8, frameon=False, labelcolor=INK, handlelength=2.6)
    guidance = "" if case.guidance is None else f", guidance {case.guidance:g}"
    title = f"{case.model}, {case.solver}{guidance}, {len(suite.samples)} samples"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return figure


def points_of(table: Sequence[Row], method: str, worst: bool) -> list[Point]:
    """What a method's settings cost and keep, the plain run and what is at the ceiling left out."""
    chosen = [row for row in table if row.setting.method == method and row.setting != PLAIN]
    points = [Point(row.cost, row.worst if worst else row.fidelity) for row in chosen]
    return [point for point in points if point.fidelity < CEILING]


def _panel(panel: "Axes", case: Case, table: Sequence[Row], colours: dict[str, str]) -> None:
    for method, colour in reversed(colours.items()):  # the suite's first method on top
        for worst, style in ((True, WORST), (False, MEAN)):
            points = points_of(table, method, worst)
            best = front(points)
            size = 3.0 if worst else 4.5
            beaten = [point for point in points if point not in best]
            if beaten:
                panel.plot(*zip(*beaten, strict=True), ls="", marker="o", ms=size, mfc="white", mec=colour, mew=0.8)
            if best:
                panel.plot(*zip(*best, strict=True), color=colour, marker="o", ms=size, mec="white", mew=0.6, **style)
    plain = next((row.cost for row in table if row.setting == PLAIN), float(case.steps))
    costs = [row.cost for row in table if row.setting != PLAIN]
    _dress(panel, min(costs), max(costs))
    panel.set_title(f"{case.steps} steps", fontsize=10, color=INK, loc="left")
    panel.axvline(plain / 2, color="#c8c8c8", lw=0.8, zorder=0)
    panel.annotate(
        "half the cost", (plain / 2, 0), (3, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
        fontsize=7, color=FAINT, annotation_clip=True,
    )  # fmt: skip


def _dress(panel: "Axes", left: float, right: float) -> None:
    """Axes over costs from `left` to `right`, with as much room again for names as they need."""
    from matplotlib.ticker import MaxNLocator

    left, right = min(left, right - 2), max(right, left + 2)
    margin = 0.05 * (right - left)
    width = right - left + 2 * margin
    panel.set_xlim(left - margin, left - margin + (1 + NAMES) * width)
    ticks = MaxNLocator(6, integer=True).tick_values(left, right)
    panel.set_xticks([tick for tick in ticks if left - margin <= tick <= right + margin])
    panel.spines["bottom"].set_bounds(left - margin, right + margin)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.grid(True, axis="y", color="#ececec", lw=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(colors=INK, labelsize=8, length=3)
    panel.set_xlabel("network evaluations a sample", fontsize=9, color=INK, loc="left")


def _name_fronts(panel: "Axes", table: Sequence[Row], colours: dict[str, str]) -> None:
    """Every method's name to the right of its solid line's end, moved up or down where names would meet."""
    fronts = {method: front(points_of(table, method, worst=False)) for method in colours}
    ends = {method: best[-1] for method, best in fronts.items() if best}
    low, high = panel.get_ylim()
    left, right = panel.get_xlim()
    at = right - (right - left) * NAMES / (1 + NAMES)
    heights = spread([(end.fidelity - low) / (high - low) for end in ends.values()], NAME_HEIGHT)
    for (method, end), height in zip(ends.items(), heights, strict=True):
        line = {"arrowstyle": "-", "color": colours[method], "lw": 0.5, "alpha": 0.5, "shrinkA": 1, "shrinkB": 3}
        panel.annotate(
            method, end, (at, low + height * (high - low)), fontsize=8, color=colours[method], va="center",
            arrowprops=line,
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights in [0, 1] moved as little as needed for neighbours to be `gap` apart, in the same order."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    blocks: list[tuple[float, int]] = []  # neighbours that touch move as one: (their common shift line, how many)
    for rank, index in enumerate(order):
        blocks.append((heights[index] - gap * rank, 1))
        while len(blocks) > 1 and blocks[-1][0] < blocks[-2][0]:
            (before, some), (after, more) = blocks[-2:]
            blocks[-2:] = [((before * some + after * more) / (some + more), some + more)]
    shifts = [shift for shift, members in blocks for _ in range(members)]
    placed = [shift + gap * rank for rank, shift in enumerate(shifts)]
    over = max(0.0, max(placed, default=0.0) - 1)
    return [placed[order.index(index)] - over for index in range(len(heights))]
