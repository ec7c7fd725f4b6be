"""Scales of guidance: a number, a number for each sample, or a function of the evaluation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real

from torch import Tensor

from ..device.indexing import sent
from .base import Branches, Moment

Scale = float | tuple[float, ...] | Callable[[Moment], float]
"""A number; one for each sample of the batch; or a function of the evaluation, as `Linear` and `Cosine` are."""


@dataclass(frozen=True)
class _Ramp:
    """A scale that goes from one value to another over the run.

    Attributes:
        first: Scale of the first evaluation.
        last: Scale of the last evaluation.
    """

    first: float
    last: float


@dataclass(frozen=True)
class Linear(_Ramp):
    """A scale that changes linearly with the step."""

    def __call__(self, moment: Moment) -> float:
        return self.first + (self.last - self.first) * moment.fraction


@dataclass(frozen=True)
class Cosine(_Ramp):
    """A scale that changes along half a cosine: slowly at both ends."""

    def __call__(self, moment: Moment) -> float:
        return self.last + (self.first - self.last) * (1 + math.cos(math.pi * moment.fraction)) / 2


def scale_at(scale: Scale, branches: Branches) -> float | Tensor:
    """The scale of some samples at an evaluation: a number, or a column (R, 1, ...)."""
    if not isinstance(scale, tuple):
        return number_at(scale, branches.moment)
    column = sent([scale[row] for row in branches.rows], branches.x.device, branches.x.dtype)
    return column.view(-1, *[1] * (branches.x.dim() - 1))


def number_at(scale: float | Callable[[Moment], float], moment: Moment) -> float:
    """The scale at an evaluation, if all samples share it."""
    return float(scale(moment)) if callable(scale) else scale


def check_scale(owner: str, scale: Scale) -> None:
    """Raises ValueError, which names the rule `owner`, unless a scale is of one of its types, and finite."""
    values = scale if isinstance(scale, tuple) else (scale,)
    if isinstance(scale, type) or not values:
        raise ValueError(f"{owner}.scale must be a number, one for each sample, or a function, got {scale!r}")
    if not callable(scale):
        for value in values:
            _require_finite(f"{owner}.scale", value)


def check_function(owner: str, scale: Scale, moments: Sequence[Moment]) -> None:
    """Raises ValueError, which names the rule `owner`, if a function returns no finite number at some evaluation."""
    if callable(scale):
        for moment in moments:
            _require_finite(f"{owner}.scale at step {moment.step} of {moment.steps}", scale(moment))


def _require_finite(label: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{label} must be a finite number, got {value!r}")
