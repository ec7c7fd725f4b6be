"""What denoisers share that change the x0 of another."""

from dataclasses import dataclass, replace
from typing import Any, Self

from sadaflow.solvers import Prediction, Solver

from .binding import begun, share_of


@dataclass(frozen=True)
class Around:
    """Base class of denoisers that call another one, whose prediction, branches and costs are theirs.

    Attributes:
        inner: The other denoiser.
    """

    inner: Any

    @property
    def prediction(self) -> Prediction | None:
        """What the network predicts."""
        return getattr(self.inner, "prediction", None)

    @property
    def branches(self) -> int:
        """Number of branches of a full evaluation."""
        return getattr(self.inner, "branches", 1)

    def share(self, step: int) -> float:
        """Cost of evaluation `step`, in units of an evaluation of all branches."""
        return share_of(self.inner, step)

    def begun(self, solver: Solver) -> Self:
        """The denoiser at the beginning of a run of a solver."""
        return replace(self, inner=begun(self.inner, solver))
