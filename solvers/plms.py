"""PLMS, the linear multistep form of PNDM."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from .coordinates import starts_near_noise
from .grid import Node, Point
from .linear import LinearSolver, Update, output_update

ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@dataclass(frozen=True, eq=False)
class PLMS(LinearSolver):
    """Pseudo linear multistep with the two-evaluation start of latent diffusion.

        e  = (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3) / 24
        x' = DDIM step from x with output e

    e_j is the output j evaluations ago. The weights are those of Adams-Bashforth on equal steps, so the order is 2 on
    any grid. The first interval is stepped twice, the second time with the mean of the outputs at its ends: N steps
    take N+1 evaluations. The last step extrapolates beyond the last x0.

    Source: Liu et al. 2022, arXiv 2202.09778.

    Attributes:
        grid: the points that the trajectory visits.
        prediction: type of the combined outputs: "epsilon", "v_prediction" or "flow_prediction". None combines epsilon,
            or flow on a grid that starts near alpha = 0, where epsilon does not determine x0.

    Raises:
        ValueError: if `prediction` is unknown, or epsilon on a grid that starts near alpha = 0.
    """

    prediction: str | None = None
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.prediction not in (None, "epsilon", "v_prediction", "flow_prediction"):
            raise ValueError(f"PLMS mixes epsilon, v_prediction or flow_prediction, got prediction={self.prediction!r}")
        if self.prediction == "epsilon" and self.grid.noisiest.pure_noise:
            where = "ends" if self.grid.rises else "starts"
            raise ValueError(f"PLMS cannot mix epsilon on a grid that {where} near alpha = 0; use flow_prediction")

    @property
    def output_type(self) -> str:
        """Prediction type of the combined outputs."""
        return self.prediction or ("flow_prediction" if starts_near_noise(self.grid) else "epsilon")

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The grid's nodes, the second one twice."""
        points = self.grid.nodes
        return points if len(points) == 1 else (*points[:2], *points[1:])

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        points = self.grid.points
        first = replace(mixed_step(self.output_type, points[0], points[1], (1.0,)), anchors=True)
        if self.n_evals == 1:
            return (first,)
        updates = [first, self._redo_first()]
        for interval in range(1, self.grid.n_steps):
            # The history holds evaluations 0 (node 0), 1 (first at node 1, weight 0), 2 (second at node 1), 3, ...
            weights = list(ADAMS[min(interval + 1, 4) - 1])
            if interval <= 3:
                weights.insert(interval, 0.0)
            updates.append(mixed_step(self.output_type, points[interval], points[interval + 1], tuple(weights)))
        return tuple(updates)

    def _redo_first(self) -> Update:
        start, end = self.grid.points[:2]
        keep, rate = _transfer(self.output_type, start, end)
        update = output_update(self.output_type, end, 0.0, (rate / 2, rate / 2))
        return replace(update, anchor=keep)


def mixed_step(prediction: str, start: Point, end: Point, weights: tuple[float, ...]) -> Update:
    """Returns the DDIM step from `start` to `end` with a weighted sum of outputs (newest first) as its output."""
    keep, rate = _transfer(prediction, start, end)
    return output_update(prediction, start, keep, tuple(rate * weight for weight in weights))


def _transfer(prediction: str, start: Point, end: Point) -> tuple[float, float]:
    """Returns (keep, rate) of DDIM written as x' = keep x + rate output, for an output of the given prediction type."""
    ratio = end.sigma / start.sigma
    gain = end.alpha - ratio * start.alpha  # x' = ratio x + gain x0
    if prediction == "epsilon":
        return ratio + gain / start.alpha, -gain * start.sigma / start.alpha
    if prediction == "v_prediction":
        return ratio + gain * start.alpha, -gain * start.sigma
    total = start.alpha + start.sigma
    return ratio + gain / total, -gain * start.sigma / total
