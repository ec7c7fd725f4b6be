"""What every chart of fronts draws: the curves of each method, their colours, and where their names go."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...compare.style import Shade, method_shades
from ..suite.model import PLAIN, Suite
from .fronts import CEILING, Front, Point, Row, front

AXIS_COST = "network evaluations per sample"


@dataclass(frozen=True)
class Curve:
    """The settings of a method over the mean of all samples, or over the worst sample.

    Attributes:
        best: The front: settings that no other setting of the method beats in cost and fidelity both.
        beaten: The other settings.
    """

    best: Front
    beaten: Front


def curve(table: Sequence[Row], method: str, *, worst: bool) -> Curve:
    """Returns the curve of a method.

    Args:
        table: Rows of a case. The plain run and values at the ceiling (see `CEILING`) are left out.
        method: Name of the method.
        worst: Whether the fidelity is that of the worst sample instead of the mean.
    """
    points = [point_of(row, worst) for row in table if row.setting.method == method and row.setting != PLAIN]
    points = [point for point in points if point.fidelity < CEILING]
    best = front(points)
    return Curve(best, [point for point in points if point not in best])


def point_of(row: Row, worst: bool) -> Point:
    """Returns cost and fidelity of a setting: of the worst sample, or the mean."""
    return Point(row.cost, row.worst if worst else row.fidelity)


def shades(suite: Suite) -> dict[str, Shade]:
    """Returns the colours of the suite's methods, in the suite's order."""
    return method_shades({method.name: method.settings[0].accelerator or "" for method in suite.methods})


def fidelity_label(table: Sequence[Row]) -> str:
    """Returns the label of the fidelity axis: PSNR of pictures, else the signal-to-noise ratio of the latents."""
    return f"{'latent SNR' if table[0].ssim is None else 'PSNR'} against the plain run (dB)"


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Moves labels apart.

    Args:
        heights: Where the labels would be, in [0, 1].
        gap: Least distance between neighbours.

    Returns:
        Heights at most 1 in the same order, at least `gap` apart, moved as little as needed (least squares).
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    blocks: list[tuple[float, int]] = []  # neighbours that touch move together: (height of the lowest, how many)
    for rank, index in enumerate(order):
        blocks.append((heights[index] - gap * rank, 1))
        while len(blocks) > 1 and blocks[-1][0] < blocks[-2][0]:
            (before, some), (after, more) = blocks[-2:]
            blocks[-2:] = [((before * some + after * more) / (some + more), some + more)]
    shifts = [shift for shift, members in blocks for _ in range(members)]
    placed = [shift + gap * rank for rank, shift in enumerate(shifts)]
    over = max(0.0, max(placed, default=0.0) - 1)
    return [placed[order.index(index)] - over for index in range(len(heights))]
