"""Conditioning that changes in the course of the steps, from that of a prompt to that of another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from sadaflow.models import Seam

from .conditioning import Backbone, Conditioned, ConditionedStages, conditioned


@dataclass(frozen=True, eq=False)
class Blend:
    """What the conditional branch becomes.

    Attributes:
        then: Conditioning of the other prompt, by the names of the arguments that it takes the place of.
        weights: Its weight in each evaluation: 0 is the first prompt, 1 the other, and between them both are
            interpolated.
    """

    then: Mapping[str, Tensor]
    weights: Sequence[float]


class BlendedConditioned:
    """A `Conditioned` whose last branch, the conditional one, follows a `Blend`.

    What depends on the conditioning alone is computed anew whenever the weight changes, and kept until it does.

    Args:
        backbone: The network.
        timesteps: Timestep of each evaluation.
        branches: Conditioning by name for each branch, (samples, ...) each.
        blend: What the last branch becomes.
    """

    def __init__(
        self,
        backbone: Backbone,
        timesteps: Sequence[float],
        branches: Sequence[Mapping[str, Tensor]],
        blend: Blend,
    ) -> None:
        self._backbone, self._timesteps, self._branches, self._blend = backbone, timesteps, branches, blend
        self._stretches = _stretches(blend.weights)
        self._now = self._conditioned(self._stretches[0])
        self._stretch = self._stretches[0]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self._now.samples

    def evaluate(self, x: Tensor, step: int, entries: Sequence[int], seam: Seam, settings: Mapping[str, Any]) -> Tensor:
        """The prediction for some entries; see `Conditioned.evaluate`."""
        if step not in self._stretch:
            self._stretch = next(stretch for stretch in self._stretches if step in stretch)
            self._now = self._conditioned(self._stretch)
        return self._now.evaluate(x, step - self._stretch.start, entries, seam, settings)

    def _conditioned(self, stretch: range) -> Conditioned | ConditionedStages:
        weight, conditional = self._blend.weights[stretch.start], self._branches[-1]
        blended = {name: _between(conditional[name], other, weight) for name, other in self._blend.then.items()}
        branches = [*self._branches[:-1], {**conditional, **blended}]
        return conditioned(self._backbone, self._timesteps[stretch.start : stretch.stop], branches)


def _stretches(weights: Sequence[float]) -> list[range]:
    """The ranges of successive evaluations with the same weight."""
    found, start = [], 0
    for _, equal in groupby(weights):
        stop = start + len(list(equal))
        found.append(range(start, stop))
        start = stop
    return found


def _between(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Interpolates, exact at both ends."""
    return first if weight == 0 else second if weight == 1 else torch.lerp(first, second, weight)
