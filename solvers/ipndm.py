"""iPNDM: Adams-Bashforth with the weights of even steps."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from .coordinates import frame_of
from .linear import LinearSolver, Update, first_order
from .plms import ADAMS, mixed_step


@dataclass(frozen=True, eq=False)
class IPNDM(LinearSolver):
    """Improved PNDM (Zhang & Chen 2022, arXiv 2204.13902): as `PLMS`, but with a start of lower order.

    The weights of Adams-Bashforth 4 on even steps mix the network's outputs, then DDIM's transfer makes the step. The
    first steps mix fewer outputs, so N steps are N evaluations. Second order, as the weights do not depend on the
    spacing. The last step extrapolates past the last x0.

    Args:
        prediction: what is mixed: "epsilon", "v_prediction" or "flow_prediction". None mixes flow on rectified flow and
            on grids that start at alpha = 0, else epsilon.

    Raises:
        ValueError: if `prediction` is another kind.
    """

    prediction: str | None = None
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.prediction not in (None, "epsilon", "v_prediction", "flow_prediction"):
            raise ValueError(
                f"IPNDM mixes epsilon, v_prediction or flow_prediction, got prediction={self.prediction!r}"
            )

    @property
    def answer(self) -> str:
        return self.prediction or frame_of(self.grid, None).answer

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        steps = list(pairwise(self.grid.points))
        later = [mixed_step(self.answer, *step, ADAMS[min(index, 3)]) for index, step in enumerate(steps) if index]
        return (first_order(*steps[0]), *later)
