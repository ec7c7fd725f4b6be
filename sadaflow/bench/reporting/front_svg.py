"""Fronts of fidelity over cost as inline SVG: mean solid, worst sample dashed, hollow what its front beats."""

import math
from collections.abc import Callable, Sequence
from html import escape

from ..suite.model import PLAIN
from .front_figure import points_of, spread
from .fronts import CEILING, Point, Row, front

WIDTH, HEIGHT = 1000, 440
LEFT, RIGHT, TOP, BOTTOM = 56, 220, 16, 48  # margins; the right one holds the methods' names
LINE = 17  # pixels between names

Scale = Callable[[float], float]


def chart(table: Sequence[Row], colours: dict[str, int]) -> str:
    """The chart of a case; a method's colour is the CSS class `c` and its number. Empty without settings to compare."""
    compared = [row for row in table if row.setting != PLAIN and min(row.fidelity, row.worst) < CEILING]
    if not compared:
        return ""
    plain = max(row.cost for row in table)
    costs, levels = [row.cost for row in compared], [row.fidelity for row in compared if row.fidelity < CEILING]
    levels += [row.worst for row in compared if row.worst < CEILING]
    x_ticks, y_ticks = ticks(min(costs), max(costs), 8), ticks(min(levels), max(levels), 7)
    x = _scale(x_ticks[0], x_ticks[-1], LEFT, WIDTH - RIGHT)
    y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    ends = {method: best[-1] for method in colours if (best := front(points_of(compared, method, worst=False)))}
    heights = spread([1 - y(end.fidelity) / HEIGHT for end in ends.values()], LINE / HEIGHT)
    names = {method: (1 - height) * HEIGHT for method, height in zip(ends, heights, strict=True)}
    what = "PSNR against the plain run (dB)" if table[0].ssim is not None else "latent SNR against the plain run (dB)"
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Fronts of fidelity over cost">',
        *(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>'
          f'<text class="tick" x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
          for tick in y_ticks),
        *(f'<path class="axis" d="M{x(tick):.1f} {HEIGHT - BOTTOM}v5"/>'
          f'<text class="tick" x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>'
          for tick in x_ticks),
        f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>',
        f'<text class="label" x="{LEFT}" y="{HEIGHT - 8}">network evaluations a sample</text>',
        f'<text class="label" transform="translate(13 {HEIGHT - BOTTOM}) rotate(-90)">{what}</text>',
    ]  # fmt: skip
    if x_ticks[0] < plain / 2 < x_ticks[-1]:
        at = x(plain / 2)
        parts.append(f'<path class="half" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="tick" x="{at + 4:.1f}" y="{HEIGHT - BOTTOM - 5}">half the cost</text>')
    for method, number in reversed(colours.items()):  # the suite's first method on top
        rows = [row for row in compared if row.setting.method == method]
        if rows:
            parts.append(f'<g class="method c{number}" data-method="{escape(method)}">')
            parts += [*_curves(rows, x, y), *_name(method, ends, names, x, y), "</g>"]
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers, at most `most` + 1 of them, that enclose [low, high]; a single value is put in the middle."""
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * one for one in (1, 2, 5, 10, 20)):
        first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
        if last - first <= most:
            break
    return [round(index * step, 9) for index in range(first, last + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _curves(rows: Sequence[Row], x: Scale, y: Scale) -> list[str]:
    parts = []
    for worst in (True, False):
        best = front(points_of(rows, rows[0].setting.method, worst))
        line = " ".join(f"{x(point.cost):.1f},{y(point.fidelity):.1f}" for point in best)
        parts.append(f'<polyline class="{"worst" if worst else "mean"}" points="{line}"/>')
        for row in rows:
            point = Point(row.cost, row.worst if worst else row.fidelity)
            if point.fidelity < CEILING:
                style = " beaten" * (point not in best)
                parts.append(
                    f'<circle class="{"small" if worst else "large"}{style}" cx="{x(point.cost):.1f}" '
                    f'cy="{y(point.fidelity):.1f}" r="{2.6 if worst else 4}" data-tip="{escape(_tip(row))}"/>'
                )
    return parts


def _tip(row: Row) -> str:
    lines = [row.setting.label, f"{row.cost:.1f} evaluations", f"mean {row.fidelity:.2f} dB, worst {row.worst:.2f} dB"]
    return "\n".join(lines + ([] if row.ssim is None else [f"SSIM {row.ssim:.4f}, worst {row.worst_ssim:.4f}"]))


def _name(method: str, ends: dict[str, Point], names: dict[str, float], x: Scale, y: Scale) -> list[str]:
    if method not in ends:
        return []
    end, at, left = ends[method], names[method], WIDTH - RIGHT + 16
    return [
        f'<path class="lead" d="M{x(end.cost) + 6:.1f} {y(end.fidelity):.1f}L{left - 3} {at:.1f}"/>',
        f'<text class="name" x="{left}" y="{at + 4:.1f}">{escape(method)}</text>',
    ]
