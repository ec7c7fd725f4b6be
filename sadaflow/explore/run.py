"""What the page shows of one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from ..files.images import to_image
from ..files.png import encode_png

_LARGEST: Final = 192  # pixels along a side of a picture of a step
_COLUMNS: Final = 10


@dataclass(frozen=True, eq=False)
class ExploredRun:
    """One sample's run of N steps.

    Attributes:
        label: Name of the method.
        modes: Mode of each step.
        curves: Values per step by name, such as "error of x0"; NaN where there is none. Runs of a page that have the
            same name share a chart.
        pictures: x0 after each step as RGB pictures (N, 3, H, W) in [0, 1]; None: no pictures.
        thresholds: Level to mark in a chart, by the name of the curve.
        tokens: Which tokens were computed at each step, bool (h, w); None where all were.
        facts: Values per step that are shown as numbers only, such as t.
    """

    label: str
    modes: Sequence[str]
    curves: Mapping[str, Sequence[float]]
    pictures: Tensor | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    tokens: Sequence[Tensor | None] = ()
    facts: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """What the page's script reads, as JSON holds it."""
        sheet = None if self.pictures is None else _contact_sheet(self.pictures)
        return {
            "label": self.label,
            "modes": list(self.modes),
            "curves": {name: _numbers(values) for name, values in self.curves.items()},
            "thresholds": dict(self.thresholds),
            "facts": {name: _numbers(values) for name, values in self.facts.items()},
            "tokens": [None if mask is None else mask.int().tolist() for mask in self.tokens],
            "sheet": sheet,
        }


def _numbers(values: Sequence[float]) -> list[float | None]:
    """Five digits of each value; None in place of NaN and infinity, which JSON lacks."""
    return [float(f"{value:.5g}") if abs(value) < float("inf") else None for value in values]


def _contact_sheet(pictures: Tensor) -> dict[str, Any]:
    """All pictures in rows of ten, as one PNG.

    Args:
        pictures: (N, 3, H, W) in [0, 1].
    """
    count, _, height, width = pictures.shape
    shrunk = max(height, width) / _LARGEST
    if shrunk > 1:
        height, width = max(1, round(height / shrunk)), max(1, round(width / shrunk))
        pictures = F.interpolate(pictures.float(), (height, width), mode="area")
    rows = -(-count // _COLUMNS)
    padding = torch.zeros(rows * _COLUMNS - count, 3, height, width)
    tiles = torch.cat([pictures.float().cpu(), padding]).unflatten(0, (rows, _COLUMNS))
    sheet = tiles.permute(2, 0, 3, 1, 4).reshape(3, rows * height, _COLUMNS * width)
    return {"png": encode_png(to_image(sheet)), "width": width, "height": height, "columns": _COLUMNS}
