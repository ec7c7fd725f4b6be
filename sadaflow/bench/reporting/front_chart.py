"""Positions of the interactive chart of fronts that the page holds as SVG; `chart.svg.jinja` draws them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .curves import HALF, Compared, fidelity_label, spread
from .fronts import CEILING, Row

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 52, 176, 14, 46  # margins; the right one holds the methods' names
LINE = 15  # pixels between names

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Dot:
    """A setting, over the mean or the worst sample.

    Attributes:
        x: Pixels from the left.
        y: Pixels from the top.
        style: CSS classes: "large" for the mean, "small" for the worst sample, "beaten" if it is not on the front.
        setting: Label of the setting.
        tip: Text shown under the pointer.
    """

    x: float
    y: float
    style: str
    setting: str
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
        x_ticks: Position and value of the marks on the axis of costs, in % of the plain run's evaluations.
        y_ticks: Position and value of the marks on the axis of fidelity.
        half: Position of half the plain run's cost, None if it is outside.
        x_label: Label of the axis of costs.
        y_label: Label of the axis of fidelity.
        lines: Methods; the last is drawn on top.
    """

    x_ticks: tuple[tuple[float, float], ...]
    y_ticks: tuple[tuple[float, float], ...]
    half: float | None
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
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
    compared = Compared.of(table)
    if not compared.rows:
        return None
    points = [compared.point(row, worst=worst) for row in compared.rows for worst in (False, True)]
    costs = [point.cost for point in points]
    levels = [point.fidelity for point in points if point.fidelity < CEILING]
    x_ticks, y_ticks = ticks(min(costs), max(costs), 8), ticks(min(levels), max(levels), 7)
    x = _scale(x_ticks[0], x_ticks[-1], LEFT, WIDTH - RIGHT)
    y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    present = {row.setting.method for row in compared.rows}
    return Chart(
        x_ticks=tuple((x(tick), tick) for tick in x_ticks),
        y_ticks=tuple((y(tick), tick) for tick in y_ticks),
        half=x(HALF) if x_ticks[0] < HALF < x_ticks[-1] else None,
        x_label=compared.axis,
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


def _lines(compared: Compared, methods: Sequence[str], x: Scale, y: Scale) -> tuple[Line, ...]:
    fronts = {method: compared.curve(method, worst=False).best for method in methods}
    ends = {method: (x(best[-1].cost), y(best[-1].fidelity)) for method, best in fronts.items() if best}
    heights = spread([1 - end[1] / HEIGHT for end in ends.values()], LINE / HEIGHT)
    names = {method: (1 - height) * HEIGHT for method, height in zip(ends, heights, strict=True)}
    lines = []
    for method in reversed(methods):
        best = (compared.curve(method, worst=which).best for which in (True, False))
        worst, mean = (" ".join(f"{x(at.cost):.1f},{y(at.fidelity):.1f}" for at in front) for front in best)
        lines.append(Line(method, worst, mean, _dots(compared, method, x, y), ends.get(method), names.get(method, 0.0)))
    return tuple(lines)


def _dots(compared: Compared, method: str, x: Scale, y: Scale) -> tuple[Dot, ...]:
    dots = []
    for worst, size in ((True, "small"), (False, "large")):
        best = compared.curve(method, worst=worst).best
        for row in compared.rows:
            point = compared.point(row, worst=worst)
            if row.setting.method == method and point.fidelity < CEILING:
                style = size if point in best else f"{size} beaten"
                dots.append(Dot(x(point.cost), y(point.fidelity), style, row.setting.label, _tip(row, point.cost)))
    return tuple(dots)


def _tip(row: Row, share: float) -> str:
    cost = f"{row.cost:.1f} evaluations, {share:.0f} % of the plain run's"
    lines = [row.setting.label, cost, f"mean {row.fidelity:.1f} dB, worst {row.worst:.1f} dB"]
    return "\n".join(lines + ([] if row.ssim is None else [f"SSIM {row.ssim:.3f}, worst {row.worst_ssim:.3f}"]))
