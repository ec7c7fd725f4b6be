"""Classifier-free guidance, and the base class of rules that have a scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sadaflow.solvers import Prediction, Solver

from .base import Branches, Moment, Needs, Rule
from .scale import Scale, check_function, check_scale, number_at, scale_at


@dataclass(frozen=True)
class Scaled(Rule):
    """A rule with a scale.

    Attributes:
        scale: Scale of guidance: a number, one for each sample, or a function of the evaluation.
    """

    scale: Scale = 7.5

    def __post_init__(self) -> None:
        check_scale(type(self).__name__, self.scale)

    @property
    def pointwise(self) -> bool:
        return not callable(self.scale)

    def check(self, prediction: Prediction, moments: Sequence[Moment], solver: Solver | None) -> None:
        check_function(type(self).__name__, self.scale, moments)

    def needs(self, moment: Moment) -> Needs:
        """The conditional branch alone where the scale of all samples is 1."""
        alone = not isinstance(self.scale, tuple) and number_at(self.scale, moment) == 1
        return Needs.CONDITIONAL if alone else Needs.ALL


@dataclass(frozen=True)
class CFG(Scaled):
    """Classifier-free guidance: negative + scale (conditional - negative).

    Of several samples with a scale each, those with 1 or less are not guided, as with a single number.

    Source: Ho & Salimans 2022, arXiv 2207.12598.
    """

    def guided(self, branches: Branches, memory: Any) -> Tensor:
        negative, conditional = branches.negative, branches.conditional
        scale = scale_at(self.scale, branches)
        led = negative + scale * (conditional - negative)
        return led if isinstance(scale, float | int) else torch.where(scale > 1, led, conditional)


def as_rule(guidance: Scale | Rule) -> Rule:
    """A guidance rule as it is, and a scale as classifier-free guidance."""
    return guidance if isinstance(guidance, Rule) else CFG(guidance)
