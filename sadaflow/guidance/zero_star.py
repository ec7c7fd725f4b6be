"""CFG-Zero*: guidance for flow matching with an optimised negative branch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from sadaflow.solvers import Prediction, Solver

from .base import Branches, Moment, Needs, inner_product
from .cfg import Scaled
from .scale import scale_at

_EPSILON: Final = 1e-8


@dataclass(frozen=True)
class CFGZeroStar(Scaled):
    """CFG-Zero*: the negative prediction u is scaled to the conditional one, c, before guidance.

        prediction = a u + scale (c - a u),    a = (c, u) / (u, u) per sample.

    It acts on the network's own output. At the first steps the velocity is 0 and no network is evaluated.

    Source: Fan et al. 2025, arXiv 2503.18886.

    Attributes:
        zero_steps: Number of evaluations, from the first, at which the velocity is 0; for networks that predict the
            flow alone. With one of eps or v it must be 0.
    """

    zero_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.zero_steps) is not int or self.zero_steps < 0:
            raise ValueError(f"CFGZeroStar.zero_steps must be a whole number of at least 0, got {self.zero_steps!r}")

    @property
    def pointwise(self) -> bool:
        return super().pointwise and self.zero_steps == 0

    def check(self, prediction: Prediction, moments: Sequence[Moment], solver: Solver | None) -> None:
        super().check(prediction, moments, solver)
        if self.zero_steps and prediction not in ("flow", "flow_prediction"):
            raise ValueError(
                f"CFGZeroStar.zero_steps={self.zero_steps} sets the velocity of flow matching to 0, and this network "
                f"predicts {prediction}: use zero_steps=0"
            )
        if self.zero_steps >= len(moments):
            raise ValueError(f"CFGZeroStar.zero_steps={self.zero_steps} leaves none of {len(moments)} evaluations")

    def needs(self, moment: Moment) -> Needs:
        return Needs.NOTHING if moment.step < self.zero_steps else super().needs(moment)

    def guided(self, branches: Branches, memory: Any) -> Tensor:
        negative, conditional = branches.negative, branches.conditional
        fit = inner_product(conditional, negative) / (inner_product(negative, negative) + _EPSILON)
        led = fit * negative
        return led + scale_at(self.scale, branches) * (conditional - led)
