"""Draws a grid for notebooks, as a small SVG without other libraries."""

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .base import GridSolver
    from .grid import Grid

_WIDTH, _HEIGHT, _EDGE = 320, 120, 8  # pixels


def draw_levels(levels: Sequence[float], marked: Sequence[tuple[float, float]] = ()) -> str:
    """Draws noise levels over the index of the step.

    Args:
        levels: log(sigma / alpha) at each point; infinite ones are left out.
        marked: Evaluations (step, level) to mark by dots.

    Returns:
        An `svg` element; its colours are those of the surrounding text.
    """
    points = [(float(step), level) for step, level in enumerate(levels) if math.isfinite(level)]
    dots = [(step, level) for step, level in marked if math.isfinite(level)]
    heights = [level for _, level in (*points, *dots)] or [0.0]
    low, span = min(heights), max(heights) - min(heights) or 1.0
    steps = max(len(levels) - 1, 1)

    def at(step: float, level: float) -> tuple[float, float]:
        x = _EDGE + (_WIDTH - 2 * _EDGE) * step / steps
        return round(x, 1), round(_EDGE + (_HEIGHT - 2 * _EDGE) * (1 - (level - low) / span), 1)

    line = " ".join(f"{x},{y}" for x, y in (at(*point) for point in points))
    circles = "".join(f'<circle cx="{x}" cy="{y}" r="2"/>' for x, y in (at(*dot) for dot in dots))
    label = f"log(sigma/alpha) from {heights[0]:.3g} to {low:.3g} over {steps} steps"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{label}" fill="currentColor">'
        f'<title>{label}</title><polyline points="{line}" fill="none" stroke="currentColor"/>{circles}</svg>'
    )


def grid_html(grid: "Grid") -> str:
    """A grid in words and drawn."""
    return _titled(repr(grid), "", draw_levels((-grid.log_snr).tolist()))


def solver_html(solver: "GridSolver") -> str:
    """A solver in words, and its grid drawn with a dot at each evaluation."""
    grid, nodes = solver.grid, [node for node in solver.nodes if node.alpha > 0]
    sign = 1 if grid.rises else -1  # times that rise, as interpolation needs them
    steps = np.interp([sign * node.t for node in nodes], (sign * grid.t).numpy(), np.arange(grid.n_steps + 1))
    marked = [(float(step), math.log(node.sigma / node.alpha)) for step, node in zip(steps, nodes, strict=True)]
    title = f"{type(solver).__name__}: {solver.n_evals} evaluations, order {solver.order}"
    return _titled(title, repr(grid), draw_levels((-grid.log_snr).tolist(), marked))


def _titled(title: str, line: str, drawing: str) -> str:
    return f"<div><strong>{escape(title)}</strong><br>{escape(line)}<br>{drawing}</div>"
