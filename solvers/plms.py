"""PLMS, the linear multistep form of PNDM."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from .grid import Node, Point
from .linear import LinearSolver, Update, answered

ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@dataclass(frozen=True, eq=False)
class PLMS(LinearSolver):
    """Pseudo linear multistep (Liu et al. 2022, arXiv 2202.09778) with the two-evaluation start of latent diffusion.

    Classical Adams-Bashforth weights mix the network's outputs, then DDIM's transfer makes the step. The first interval
    is done twice, its second time with the mean of the outputs at its ends: N steps are N+1 evaluations. Second order,
    as the weights know nothing of the spacing. `prediction` is what is mixed: "epsilon", "v_prediction" or
    "flow_prediction"; None mixes epsilon, or flow on a grid that starts at alpha = 0, where epsilon gives no x0.
    """

    prediction: str | None = None
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.prediction not in (None, "epsilon", "v_prediction", "flow_prediction"):
            raise ValueError(f"PLMS mixes epsilon, v_prediction or flow_prediction, got prediction={self.prediction!r}")
        if self.prediction == "epsilon" and self.grid.points[0].alpha == 0:
            raise ValueError("PLMS cannot mix epsilon on a grid that starts at alpha = 0; use flow_prediction")

    @property
    def answer(self) -> str:
        return self.prediction or ("flow_prediction" if self.grid.points[0].alpha == 0 else "epsilon")

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        points = self.grid.nodes
        return points if len(points) == 1 else (*points[:2], *points[1:])

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        points = self.grid.points
        first = replace(mixed_step(self.answer, points[0], points[1], (1.0,)), anchors=True)
        if self.n_evals == 1:
            return (first,)
        updates = [first, self._redo_first()]
        for interval in range(1, self.grid.n_steps):
            # The history: evaluations 0 (first time at node 0), 1 (first time at node 1, left out), 2, 3, ...
            weights = list(ADAMS[min(interval + 1, 4) - 1])
            if interval <= 3:
                weights.insert(interval, 0.0)
            updates.append(mixed_step(self.answer, points[interval], points[interval + 1], tuple(weights)))
        return tuple(updates)

    def _redo_first(self) -> Update:
        start, end = self.grid.points[:2]
        keep, rate = _transfer(self.answer, start, end)
        update = answered(self.answer, end, 0.0, (rate / 2, rate / 2))
        return replace(update, anchor=keep)


def mixed_step(kind: str, start: Point, end: Point, weights: tuple[float, ...]) -> Update:
    """DDIM from `start` to `end` with a mixture of outputs, newest first, in place of one."""
    keep, rate = _transfer(kind, start, end)
    return answered(kind, start, keep, tuple(rate * weight for weight in weights))


def _transfer(kind: str, start: Point, end: Point) -> tuple[float, float]:
    """DDIM as x' = keep x + rate output, for an output of the given kind."""
    ratio = end.sigma / start.sigma
    gain = end.alpha - ratio * start.alpha  # x' = ratio x + gain x0
    if kind == "epsilon":
        return ratio + gain / start.alpha, -gain * start.sigma / start.alpha
    if kind == "v_prediction":
        return ratio + gain * start.alpha, -gain * start.sigma
    total = start.alpha + start.sigma
    return ratio + gain / total, -gain * start.sigma / total
