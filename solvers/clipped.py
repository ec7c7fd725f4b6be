"""Solvers that clip x0 before using it."""

from dataclasses import dataclass

from torch import Tensor

from .base import State
from .linear import NoisySolver


@dataclass(frozen=True, eq=False)
class ClippedSolver(NoisySolver):
    """Stochastic solver that clamps x0 to [-clip, clip] in every step (Ho et al. 2020, arXiv 2006.11239).

    Attributes:
        clip: largest |x0|; None disables clipping. Correct for images in [-1, 1], harmful for latents, whose values are
            larger, although published consistency models of Stable Diffusion set it.

    Raises:
        ValueError: if `clip` is not positive.
    """

    clip: float | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"{type(self).__name__}.clip must be above 0, or None for no clipping; got {self.clip}")
        self._require_falling(True)

    def step(self, state: State, x0: Tensor) -> State:
        """Clamps x0, then applies the update; see `LinearSolver.step`."""
        return super().step(state, x0 if self.clip is None else x0.clamp(-self.clip, self.clip))
