"""The figure of one trajectory: criterion, modes, and how much x0 changes from step to step. Needs matplotlib."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .modes import mode_colours, mode_meaning

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_trajectory(
    modes: Sequence[str],
    changes: Sequence[float],
    criterion: Sequence[float],
    name: str | None,
    threshold: float | None,
) -> "Figure":
    """Draws one sample's trajectory over the index of the step.

    Args:
        modes: Mode of each of N steps.
        changes: Relative change of x0 at each step from the one before; NaN at the first.
        criterion: Value of the criterion at each step; NaN where there is none.
        name: Name of the criterion. None: it is not drawn.
        threshold: At or below it a step may be skipped. None: unknown.

    Returns:
        The figure; it belongs to no window until it is shown.

    Raises:
        ImportError: If matplotlib is not installed; the message names the extra.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError as error:
        raise ImportError("plots need the extra: pip install 'sadaflow[plots]'") from error
    heights = [2.0, 1.6, 0.25] if name is not None else [1.6, 0.25]
    figure = Figure(figsize=(7.2, 1.1 * sum(heights) + 0.9), layout="constrained")
    *panels, strip = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    steps = range(len(modes))
    if name is not None:
        panels[0].plot(steps, criterion, ".-", color="#0072b2", linewidth=0.8)
        panels[0].set_ylabel(name)
        if threshold is not None:
            panels[0].axhline(threshold, color="#666666", linewidth=0.8, linestyle="--")
    panels[-1].semilogy(steps, changes, ".-", color="#d55e00", linewidth=0.8)
    panels[-1].set_ylabel("relative change\nof x0")
    colours = mode_colours(modes)
    strip.bar(steps, 1, width=1, align="center", color=[colours[mode] for mode in modes])
    strip.set(yticks=[], ylim=(0, 1), xlim=(-0.5, len(modes) - 0.5), xlabel="step")
    figure.legend(
        handles=[Patch(color=colour, label=mode_meaning(mode)) for mode, colour in colours.items()],
        loc="outside lower center", ncols=2, fontsize="small", frameon=False,
    )  # fmt: skip
    return figure
