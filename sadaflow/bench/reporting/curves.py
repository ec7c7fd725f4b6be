"""What every chart of fronts draws: the curves of each method, their colours, and where their names go."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...display.methods import Shade, method_shades
from ..suite.model import PLAIN, Suite
from .fronts import CEILING, Front, Point, Row, front

HALF = 50.0  # % of the plain run's evaluations


@dataclass(frozen=True)
class Curve:
    """The settings of a method over the mean of all samples, or over the worst sample.

    Attributes:
        best: The front: settings that no other setting of the method beats in cost and fidelity both.
        beaten: The other settings.
    """

    best: Front
    beaten: Front


@dataclass(frozen=True)
class Compared:
    """The settings of a case beside its plain run, with costs as shares of the plain run's.

    Attributes:
        plain: Network evaluations of the plain run.
        rows: The other settings; those that equal the plain run (see `CEILING`) are left out.
    """

    plain: float
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, table: Sequence[Row]) -> "Compared":
        """Splits the rows of a case; the largest cost stands for a plain run that was not measured."""
        costs = [row.cost for row in table if row.setting == PLAIN] or [row.cost for row in table]
        others = (row for row in table if row.setting != PLAIN and min(row.fidelity, row.worst) < CEILING)
        return cls(max(costs), tuple(others))

    @property
    def axis(self) -> str:
        """Label of the axis of costs."""
        return f"network evaluations, % of the plain run's {self.plain:.3g}"

    def point(self, row: Row, *, worst: bool) -> Point:
        """Returns the share of the plain run's evaluations in % and the fidelity, mean or that of the worst sample."""
        return Point(100 * row.cost / self.plain, row.worst if worst else row.fidelity)

    def curve(self, method: str, *, worst: bool) -> Curve:
        """Returns the curve of a method.

        Args:
            method: Name of the method.
            worst: Whether the fidelity is that of the worst sample instead of the mean.
        """
        points = [self.point(row, worst=worst) for row in self.rows if row.setting.method == method]
        points = [point for point in points if point.fidelity < CEILING]
        best = front(points)
        return Curve(best, [point for point in points if point not in best])


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
