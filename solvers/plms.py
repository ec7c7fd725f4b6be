"""PLMS, the linear multistep form of PNDM."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from .base import GridSolver, State
from .grid import Node
from .prediction import from_x0, to_x0

_ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@dataclass(frozen=True, eq=False)
class PLMS(GridSolver):
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

    @cached_property
    def _mixed(self) -> str:
        return self.prediction or ("flow_prediction" if float(self.grid.alpha[0]) == 0 else "epsilon")

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        points = self.grid.nodes
        return points if len(points) == 1 else (*points[:2], *points[1:])

    def step(self, state: State, x0: Tensor) -> State:
        node = self.nodes[state.step]
        output = from_x0(self._mixed, x0, state.x, node.alpha, node.sigma)
        if state.step == 0:
            return State(self._transfer(state.x, output, 0), 1, (output,), anchor=state.x)
        if state.step == 1:
            if state.anchor is None:
                raise ValueError("PLMS needs the state that its own step 0 returned, got one without an anchor")
            mean = (output + state.history[0]) / 2
            return State(self._transfer(state.anchor, mean, 0), 2, state.history)
        outputs = (output, *state.history)
        mixed = _combine(_ADAMS[min(len(outputs), 4) - 1], outputs)
        return State(self._transfer(state.x, mixed, state.step - 1), state.step + 1, outputs[:3])

    def _transfer(self, x: Tensor, output: Tensor, interval: int) -> Tensor:
        """DDIM over an interval, from x at its start and one network output for the whole of it."""
        node = self.grid.nodes[interval]
        alpha, sigma = float(self.grid.alpha[interval + 1]), float(self.grid.sigma[interval + 1])
        x0 = to_x0(self._mixed, output, x, node.alpha, node.sigma)
        keep = sigma / node.sigma
        return keep * x + (alpha - keep * node.alpha) * x0


def _combine(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=False):
        total = total + weight * tensor
    return total
