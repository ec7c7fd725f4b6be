"""The interface of guidance rules: how the predictions of several branches become one prediction."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from sadaflow.solvers import Node, Point, Prediction, Solver, from_x0, to_x0


class Needs(Enum):
    """Which branches a rule needs at an evaluation."""

    ALL = "all"
    CONDITIONAL = "conditional"  # the conditional branch alone, whose prediction is taken as it is
    NOTHING = "nothing"  # no branch: the prediction is 0


@dataclass(frozen=True)
class Moment:
    """An evaluation of the network, as rules and schedules of the scale see it.

    Attributes:
        step: Index of the evaluation, from 0.
        steps: Number of evaluations of the run.
        here: The point of the evaluation.
        following: The point of the next evaluation; after the last one, the end of the grid.
    """

    step: int
    steps: int
    here: Point
    following: Point

    @property
    def fraction(self) -> float:
        """Position in the run, from 0 at the first evaluation to 1 at the last one."""
        return self.step / max(self.steps - 1, 1)

    @property
    def noise(self) -> float:
        """Noise level sigma / alpha; infinite at pure noise."""
        return self.here.sigma / self.here.alpha if self.here.alpha > 0 else math.inf


CLEAN = Point(0.0, 1.0, 0.0)
"""Clean data, where a grid ends unless it says otherwise."""


def moments_of(nodes: Sequence[Node], end: Point = CLEAN) -> tuple[Moment, ...]:
    """The evaluations at `nodes`, on a grid that ends at `end`."""
    following = (*nodes[1:], end)
    return tuple(Moment(step, len(nodes), *points) for step, points in enumerate(zip(nodes, following, strict=True)))


@dataclass(frozen=True)
class Branches:
    """The predictions of all branches at one evaluation.

    Attributes:
        outputs: The network's predictions, (R, ...) each: the negative branch first, the conditional branch last.
        x: States of these samples, (R, ...).
        rows: Indices of these samples in the batch, R of them.
        moment: The evaluation.
        prediction: What the network predicts.
    """

    outputs: tuple[Tensor, ...]
    x: Tensor
    rows: Sequence[int]
    moment: Moment
    prediction: Prediction

    @property
    def negative(self) -> Tensor:
        """Prediction of the negative branch, (R, ...)."""
        return self.outputs[0]

    @property
    def conditional(self) -> Tensor:
        """Prediction of the conditional branch, (R, ...)."""
        return self.outputs[-1]

    def of(self, *outputs: Tensor) -> "Branches":
        """The same evaluation with other predictions."""
        return replace(self, outputs=outputs)

    def x0(self, output: Tensor) -> Tensor:
        """The x0 (R, ...) that a prediction stands for."""
        return to_x0(self.prediction, output, self.x, self.moment.here.alpha, self.moment.here.sigma)

    def output(self, x0: Tensor) -> Tensor:
        """The prediction (R, ...) that stands for an x0."""
        return from_x0(self.prediction, x0, self.x, self.moment.here.alpha, self.moment.here.sigma)


class Rule(ABC):
    """A guidance rule: immutable settings. What changes during a run is in the memory that `begin` returns.

    Subclasses are frozen dataclasses that define `guided`, and override what differs from the defaults.
    """

    @property
    def further(self) -> int:
        """Number of branches between the negative and the conditional one."""
        return 0

    @property
    def pointwise(self) -> bool:
        """Whether an evaluation depends on its own point alone; other rules refuse adaptive solvers."""
        return True

    def check(self, prediction: Prediction, moments: Sequence[Moment], solver: Solver | None) -> None:
        """Raises ValueError if the rule does not fit a run; called before the first evaluation.

        Args:
            prediction: What the network predicts.
            moments: All evaluations.
            solver: The solver; None if a denoiser is called without one.
        """
        return

    def begin(self, samples: int) -> Any:
        """The memory of a run on a batch of `samples`; None if the rule keeps none."""
        return None

    def needs(self, moment: Moment) -> Needs:
        """Which branches are evaluated."""
        return Needs.ALL

    @abstractmethod
    def guided(self, branches: Branches, memory: Any) -> Tensor:
        """The guided prediction (R, ...), of the kind that the network predicts; called where all branches are needed.

        Args:
            branches: The predictions.
            memory: What `begin` returned; the rule may change it for the samples `branches.rows`.
        """


@dataclass(frozen=True)
class Wrapper(Rule):
    """A rule that changes another one's; it passes on what it does not override.

    Attributes:
        inner: The other rule.
    """

    inner: Rule

    @property
    def further(self) -> int:
        return self.inner.further

    @property
    def pointwise(self) -> bool:
        return self.inner.pointwise

    def check(self, prediction: Prediction, moments: Sequence[Moment], solver: Solver | None) -> None:
        self.inner.check(prediction, moments, solver)

    def begin(self, samples: int) -> Any:
        return self.inner.begin(samples)

    def needs(self, moment: Moment) -> Needs:
        return self.inner.needs(moment)

    def guided(self, branches: Branches, memory: Any) -> Tensor:
        return self.inner.guided(branches, memory)


def inner_product(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each sample of a and b (R, ...), as (R, 1, ...)."""
    return torch.sum(a * b, dim=tuple(range(1, a.dim())), keepdim=True)
