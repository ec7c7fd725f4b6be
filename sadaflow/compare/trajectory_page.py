"""The layout of the figure of a trajectory."""

import math

MOST_MASKS = 4  # pictures of pruned tokens per prompt


class Page:
    """Positions and sizes of the panels, in inches.

    Args:
        columns: Number of prompts.
        decided: Whether there is a panel for the criterion.
        pruned: Whether there are pictures of pruned tokens.
        height: Height of a sample, in any unit.
        width: Width of a sample, in the same unit.
        legend: Number of entries of the legend.
    """

    left, right, above, gap = 0.85, 0.15, 0.6, 0.1

    def __init__(self, columns: int, decided: bool, pruned: bool, height: int, width: int, *, legend: int) -> None:
        self.column = 5.4 if columns == 1 else 3.6
        self.pitch = self.column + 0.3
        self.width = self.left + columns * self.pitch - 0.3 + self.right
        self.cell = (self.column - 0.08 * (MOST_MASKS - 1)) / MOST_MASKS
        self.panels = {"criterion": 1.8, "modes": 0.18, "error": 1.6}
        if not decided:
            del self.panels["criterion"]
        self.tokens = min(1.6, self.cell * height / width) if pruned else 0.0
        self.legend_columns = 2 if columns < 3 else 4
        foot = 0.17 * math.ceil(legend / self.legend_columns) + 0.35
        self.foot = foot + (0.15 if pruned else 0.45)
        self.above_tokens = 0.7 if pruned else 0.0
        panels = sum(self.panels.values()) + self.gap * (len(self.panels) - 1)
        self.height = self.above + panels + self.above_tokens + self.tokens + self.foot
        self.legend_top = foot / self.height

    def panel(self, name: str, column: int) -> tuple[float, float, float, float]:
        """Returns left, bottom, width and height of a panel, as shares of the figure."""
        top = self.above
        for panel, height in self.panels.items():
            if panel == name:
                break
            top += height + self.gap
        return self._share(self.left + column * self.pitch, top, self.column, self.panels[name])

    def token_panel(self, column: int, cell: int) -> tuple[float, float, float, float]:
        """Returns the same of a picture of pruned tokens."""
        left = self.left + column * self.pitch + cell * (self.cell + 0.08)
        return self._share(left, self.height - self.foot - self.tokens, self.cell, self.tokens)

    def _share(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        bottom = self.height - top - height
        return left / self.width, bottom / self.height, width / self.width, height / self.height
