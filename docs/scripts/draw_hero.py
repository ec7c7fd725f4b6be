"""Draws the picture at the head of README.md, for light and for dark pages.

    python docs/scripts/draw_hero.py        # writes docs/hero-light.png and docs/hero-dark.png
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from torch import Tensor

from sadaflow import Output, Pipeline
from sadaflow.display.modes import mode_colours
from sadaflow.metrics import psnr

MODEL, STEPS, SPEEDUP = "tiny-flux", 50, 3
PROMPTS = ("panda face", "red apple", "fire", "robot")
AMPLIFIED = 32
MEANINGS = {"full": "network evaluated", "extrapolated": "skipped"}


@dataclass(frozen=True)
class Theme:
    """Colours of a page."""

    paper: str
    ink: str
    skipped: str


THEMES = {"light": Theme("#ffffff", "#1f2328", "#d9d9d9"), "dark": Theme("#0d1117", "#e6edf3", "#3d444d")}


def pixels(image: Tensor) -> Any:
    """An image (3, H, W) in [0, 1] as an array (H, W, 3)."""
    return image.clamp(0, 1).permute(1, 2, 0).numpy()


def hero(plain: Output, fast: Output, theme: Theme) -> Figure:
    """Plain, accelerated, difference and modes of every prompt, a column each."""
    difference = (fast.images - plain.images).abs() * AMPLIFIED
    kept = psnr(fast.images, plain.images)
    columns = len(PROMPTS)
    rows = {"plain": plain.images, f"auto at {SPEEDUP}x": fast.images, f"difference x{AMPLIFIED}": difference}
    figure = Figure(figsize=(8.4, 6.9), dpi=110, facecolor=theme.paper)
    edges = {"left": 0.13, "right": 0.99, "top": 0.94, "bottom": 0.07, "wspace": 0.04, "hspace": 0.13}
    grid = figure.add_gridspec(4, columns, height_ratios=(1, 1, 1, 0.09), **edges)

    def label(axes: Any, name: str) -> None:
        axes.text(-0.06, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=9, color=theme.ink)

    colours = mode_colours(mode for row in fast.stats.modes for mode in row) | {"extrapolated": theme.skipped}
    for column, prompt in enumerate(PROMPTS):
        evaluated = (f"{out.stats.nfe[column]:g} evaluations" for out in (plain, fast))
        notes = (*evaluated, f"{kept[column]:.1f} dB")
        for row, (name, images) in enumerate(rows.items()):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(pixels(images[column]), interpolation="lanczos" if row < 2 else "nearest")
            axes.axis("off")
            title = f"{prompt}\n{notes[row]}" if row == 0 else notes[row]
            axes.set_title(title, fontsize=8, color=theme.ink, pad=3)
            if column == 0:
                label(axes, name)
        axes = figure.add_subplot(grid[3, column])
        modes = fast.stats.modes[column]
        axes.bar(np.arange(len(modes)), 1, width=0.86, color=[colours[mode] for mode in modes])
        axes.set(xlim=(-0.5, len(modes) - 0.5), ylim=(0, 1))
        axes.axis("off")
        if column == 0:
            label(axes, "each step")
    figure.legend(
        handles=[Patch(color=colour, label=MEANINGS.get(mode, mode)) for mode, colour in colours.items()],
        loc="lower center", ncols=len(colours), fontsize=8, frameon=False, labelcolor=theme.ink,
    )  # fmt: skip
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1])
    folder = parser.parse_args().out
    pipe = Pipeline.from_pretrained(MODEL)
    call: dict[str, Any] = {"seed": list(range(len(PROMPTS))), "steps": STEPS, "output": "tensor"}
    with torch.no_grad():
        plain, fast = pipe(PROMPTS, **call), pipe(PROMPTS, speedup=SPEEDUP, **call)
    for name, theme in THEMES.items():
        content = io.BytesIO()
        hero(plain, fast, theme).savefig(content, facecolor=theme.paper)
        Image.open(content).convert("RGB").quantize(256).save(folder / f"hero-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
