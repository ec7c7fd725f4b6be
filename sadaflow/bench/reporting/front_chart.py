"""Positions of the interactive chart of fronts that the page holds as SVG; `chart.svg.jinja` draws them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ..suite.model import PLAIN
from .curves import AXIS_COST, curve, fidelity_label, point_of, spread
from .fronts import CEILING, Point, Row

WIDTH, HEIGHT = 1000, 440
LEFT, RIGHT, TOP, BOTTOM = 56, 220, 16, 48  # margins; the right one holds the methods' names
LINE = 17  # pixels between names

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Dot:
    """A setting, over the mean or the worst sample.

    Attributes:
        x: Pixels from the left.
        y: Pixels from the top.
        style: CSS classes: "large" for the mean, "small" for the worst sample, "beaten" if it is not on the front.
        tip: Text shown under the pointer.
    """

    x: float
    y: float
    style: str
    tip: str


@dataclass(frozen=True)
class Line:
    """A method on the chart.

    Attributes:
        method: Its name.
        worst: Front of the worst sample, as the `points` of a polyline.
        mean: Front of the mean.
        dots: All its settings, twice.
        end: Position of the front's end, None if the front is empty.
        name_y: Height of its name beside the chart, in pixels from the top.
    """

    method: str
    worst: str
    mean: str
    dots: tuple[Dot, ...]
    end: tuple[float, float] | None
    name_y: float


@dataclass(frozen=True)
class Chart:
    """A chart of WIDTH x HEIGHT pixels.

    Attributes:
        x_ticks: Position and value of the marks on the axis of costs.
        y_ticks: Position and value of the marks on the axis of fidelity.
        half: Position of half the plain run's cost, None if it is outside.
        lines: Methods; the last is drawn on top.
    """

    x_ticks: tuple[tuple[float, float], ...]
    y_ticks: tuple[tuple[float, float], ...]
    half: float | None
    y_label: str
    lines: tuple[Line, ...]
    x_label: str = AXIS_COST
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = field(default=WIDTH - RIGHT)
    top: int = TOP
    bottom: int = field(default=HEIGHT - BOTTOM)


def chart(table: Sequence[Row], methods: Iterable[str]) -> Chart | None:
    """Computes the chart of a case.

    Args:
        table: Rows of the case.
        methods: Names of the suite's methods; the first is drawn on top.

    Returns:
        The chart, or None without a setting to compare with the plain run.
    """
    compared = [row for row in table if row.setting != PLAIN and min(row.fidelity, row.worst) < CEILING]
    if not compared:
        return None
    points = [point_of(row, worst) for row in compared for worst in (False, True)]
    costs = [point.cost for point in points]
    levels = [point.fidelity for point in points if point.fidelity < CEILING]
    x_ticks, y_ticks = ticks(min(costs), max(costs), 8), ticks(min(levels), max(levels), 7)
    x = _scale(x_ticks[0], x_ticks[-1], LEFT, WIDTH - RIGHT)
    y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    half = max(row.cost for row in table) / 2
    present = {row.setting.method for row in compared}
    return Chart(
        x_ticks=tuple((x(tick), tick) for tick in x_ticks),
        y_ticks=tuple((y(tick), tick) for tick in y_ticks),
        half=x(half) if x_ticks[0] < half < x_ticks[-1] else None,
        y_label=fidelity_label(table),
        lines=_lines(compared, [method for method in methods if method in present], x, y),
    )


def ticks(low: float, high: float, most: int) -> list[float]:
    """Returns at most `most` + 1 round numbers at equal distances that enclose [low, high].

    A single value (low = high) is put in the middle of a range of length 2.
    """
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
        if last - first <= most:
            break
    return [round(index * step, 9) for index in range(first, last + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _lines(compared: Sequence[Row], methods: Sequence[str], x: Scale, y: Scale) -> tuple[Line, ...]:
    fronts = {method: curve(compared, method, worst=False).best for method in methods}
    ends = {method: (x(best[-1].cost), y(best[-1].fidelity)) for method, best in fronts.items() if best}
    heights = spread([1 - end[1] / HEIGHT for end in ends.values()], LINE / HEIGHT)
    names = {method: (1 - height) * HEIGHT for method, height in zip(ends, heights, strict=True)}
    lines = []
    for method in reversed(methods):
        rows = [row for row in compared if row.setting.method == method]
        worst, mean = (
            " ".join(f"{x(point.cost):.1f},{y(point.fidelity):.1f}" for point in curve(rows, method, worst=which).best)
            for which in (True, False)
        )
        lines.append(Line(method, worst, mean, _dots(rows, x, y), ends.get(method), names.get(method, 0.0)))
    return tuple(lines)


def _dots(rows: Sequence[Row], x: Scale, y: Scale) -> tuple[Dot, ...]:
    dots = []
    for worst, size in ((True, "small"), (False, "large")):
        best = curve(rows, rows[0].setting.method, worst=worst).best
        for row in rows:
            point: Point = point_of(row, worst)
            if point.fidelity < CEILING:
                style = size if point in best else f"{size} beaten"
                dots.append(Dot(x(point.cost), y(point.fidelity), style, _tip(row)))
    return tuple(dots)


def _tip(row: Row) -> str:
    lines = [row.setting.label, f"{row.cost:.1f} evaluations", f"mean {row.fidelity:.2f} dB, worst {row.worst:.2f} dB"]
    return "\n".join(lines + ([] if row.ssim is None else [f"SSIM {row.ssim:.4f}, worst {row.worst_ssim:.4f}"]))
