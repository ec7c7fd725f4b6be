"""DDIM with x0 clipped to the range of pictures."""

from dataclasses import dataclass, replace

from torch import Tensor

from .base import State
from .euler import Euler


@dataclass(frozen=True, eq=False)
class DDIM(Euler):
    """DDIM, which is Euler's method, with x0 clamped to [-clip, clip].

        x' = alpha' clamp(x0) + sigma' eps,    eps = (x - alpha x0) / sigma

    The noise eps is that of the unclamped x0, as in the published pipeline.

    Source: Song et al. 2020, arXiv 2010.02502, eq. 12 with eta = 0.

    Attributes:
        grid: the points that the trajectory visits.
        clip: largest |x0|; None disables clipping. Correct for images in [-1, 1], harmful for latents.

    Raises:
        ValueError: if `clip` is not positive.
    """

    clip: float | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"DDIM.clip must be above 0, or None for no clipping; got {self.clip}")

    def step(self, state: State, x0: Tensor) -> State:
        """Returns the next state; see `LinearSolver.step`."""
        moved = super().step(state, x0)
        if self.clip is None:
            return moved
        excess = x0 - x0.clamp(-self.clip, self.clip)
        return replace(moved, x=moved.x - self.grid.points[state.step + 1].alpha * excess)
