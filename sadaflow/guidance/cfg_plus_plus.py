"""CFG++: classifier-free guidance whose noise is that of the negative branch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sadaflow.solvers import Prediction, Solver

from .base import Branches, Moment, Rule


@dataclass(frozen=True)
class CFGPlusPlus(Rule):
    """CFG++: x0 is guided by a scale from 0 to 1, and the negative branch's noise is added to it again.

    The step of the paper from (alpha, sigma) to (alpha', sigma'), with u the negative and c the conditional x0,

        x' = alpha' (u + scale (c - u)) + sigma' (x - alpha u) / sigma,

    is the step of DDIM (Euler in log-SNR form) with x0 = u + w (c - u) and

        w = scale / (1 - exp(-h)),    h = log(alpha' / sigma') - log(alpha / sigma),

    so that it is classifier-free guidance with the scale w, which is returned here. Solvers of first order take the
    paper's step; solvers of higher order use this scale, which the paper does not treat.

    Source: Chung et al. 2024, arXiv 2406.08070, Algorithm 2.

    Attributes:
        scale: Scale between 0 (no guidance) and 1.
    """

    scale: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.scale <= 1:
            raise ValueError(
                f"CFGPlusPlus.scale must lie between 0 and 1, got {self.scale!r}: 0.6 has about the effect of a usual "
                "scale of 7.5"
            )

    @property
    def pointwise(self) -> bool:
        return False

    def check(self, prediction: Prediction, moments: Sequence[Moment], solver: Solver | None) -> None:
        several = solver is not None and solver.n_evals != len(solver.grid.points) - 1
        if several or any(_kept(moment) >= 1 for moment in moments):
            raise ValueError(
                "CFG++ needs a solver with one evaluation per step on falling noise levels: ddim, euler, dpmpp2m, ..."
            )

    def guided(self, branches: Branches, memory: Any) -> Tensor:
        weight = self.scale / (1 - _kept(branches.moment))
        return branches.negative + weight * (branches.conditional - branches.negative)


def _kept(moment: Moment) -> float:
    """exp(-h), the factor by which the step multiplies sigma / alpha."""
    here, following = moment.here, moment.following
    return here.alpha * following.sigma / (following.alpha * here.sigma) if following.alpha > 0 else 1.0
