"""iPNDM: Adams-Bashforth with the weights of equal steps."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from .coordinates import frame_of
from .linear import LinearSolver, Update, first_order
from .plms import ADAMS, mixed_step


@dataclass(frozen=True, eq=False)
class IPNDM(LinearSolver):
    """Improved PNDM: as `PLMS`, but the first steps combine fewer outputs.

        e  = (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3) / 24
        x' = DDIM step from x with output e

    N steps take N evaluations. The order is 2, because the weights do not depend on the spacing. The last step
    extrapolates beyond the last x0.

    Source: Zhang & Chen 2022, arXiv 2204.13902.

    Attributes:
        grid: the points that the trajectory visits.
        prediction: type of the combined outputs: "epsilon", "v_prediction" or "flow_prediction". None combines flow on
            rectified flow and on grids that start near alpha = 0, else epsilon.

    Raises:
        ValueError: if `prediction` is unknown.
    """

    prediction: str | None = None
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.prediction not in (None, "epsilon", "v_prediction", "flow_prediction"):
            raise ValueError(
                f"IPNDM mixes epsilon, v_prediction or flow_prediction, got prediction={self.prediction!r}"
            )

    @property
    def output_type(self) -> str:
        """Prediction type of the combined outputs."""
        return self.prediction or frame_of(self.grid, None).prediction

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""
        steps = list(pairwise(self.grid.points))
        later = [mixed_step(self.output_type, *step, ADAMS[min(index, 3)]) for index, step in enumerate(steps) if index]
        return (first_order(*steps[0]), *later)
