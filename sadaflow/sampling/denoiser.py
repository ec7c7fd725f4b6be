"""The edge between a network and the solvers: guidance and prediction type, out comes x0."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.solvers import Node, Prediction, input_scale, to_x0

from .conditioning import Backbone, Conditioned

Rows = Sequence[int]


class Denoise(Protocol):
    """Anything that answers x (B, ...) at evaluation `step` with an estimate x0 of the same shape."""

    def __call__(self, x: Tensor, step: int) -> Tensor: ...


@runtime_checkable
class RowDenoise(Denoise, Protocol):
    """A denoiser that can answer for some samples of the batch alone, and lets a seam into its network."""

    def evaluate(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the samples `rows` of the batch, whose states are x (len(rows), ...)."""
        ...


@runtime_checkable
class BranchDenoise(RowDenoise, Protocol):
    """A denoiser whose answer may be guided by a second, negative branch, and that answers for the branches apart."""

    @property
    def has_negative(self) -> bool:
        """Whether there is a negative branch."""
        ...

    def evaluate_branches(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> tuple[Tensor, Tensor]:
        """What `evaluate` answers, and x0 of the conditional branch in it. Only where there is a negative branch."""
        ...

    def evaluate_conditional(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the conditional branch, without the work of the other."""
        ...


@dataclass(frozen=True)
class GuidedDenoiser:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598) around a backbone.

    `conditional` are the backbone's keyword arguments, (B, ...) each; `negative`, when given, are those of the other
    branch of `negative + guidance (conditional - negative)`. Both go through the network in one call, or with
    `split_guidance` one after the other where no seam acts in it, which takes less memory and as a rule more time. The
    state keeps its own dtype; the network computes in that of its weights (`dtype`), on x times the `input_scale` of
    its `prediction`. `settings`, when given, are keyword arguments of the backbone that are the same for all samples
    and change from step to step, one per node. Of a `PreparedBackbone`, what it can do ahead is done when the denoiser
    is made.
    """

    backbone: Backbone
    nodes: Sequence[Node]
    prediction: Prediction
    conditional: Mapping[str, Tensor]
    negative: Mapping[str, Tensor] | None
    guidance: float
    dtype: torch.dtype
    settings: Sequence[Mapping[str, Any]] | None = None
    split_guidance: bool = False
    _conditioned: Conditioned = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        branches = [self.conditional] if self.negative is None else [self.negative, self.conditional]
        timesteps = [node.timestep for node in self.nodes]
        object.__setattr__(self, "_conditioned", Conditioned(self.backbone, timesteps, branches))

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), call_through)

    @property
    def has_negative(self) -> bool:
        return self.negative is not None

    def evaluate(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the samples `rows`, whose states are x (len(rows), C, h, w)."""
        return self._x0(self._guided(*self._branches(x, step, rows, seam)), x, step)

    def evaluate_branches(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> tuple[Tensor, Tensor]:
        """x0 as `evaluate` gives it, and that of the conditional branch alone; both as x."""
        negative, conditional = self._branches(x, step, rows, seam)
        return self._x0(self._guided(negative, conditional), x, step), self._x0(conditional, x, step)

    def evaluate_conditional(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the conditional branch, the only one that goes through the network."""
        return self._x0(self._predictions([int(self.has_negative)], x, step, rows, seam), x, step)

    def _branches(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Sequence[Tensor]:
        """The network's predictions by branch, the conditional one last."""
        branches = range(1 + self.has_negative)
        if self.split_guidance and seam is call_through:
            return [self._predictions([branch], x, step, rows, seam) for branch in branches]
        return self._predictions(branches, x, step, rows, seam).chunk(len(branches))

    def _predictions(self, branches: Sequence[int], x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        node = self.nodes[step]
        scale = input_scale(self.prediction, node.alpha, node.sigma)
        inputs = torch.cat([(x if scale == 1 else scale * x).to(self.dtype)] * len(branches))
        entries = [branch * self._conditioned.samples + row for branch in branches for row in rows]
        settings = {} if self.settings is None else self.settings[step]
        return self._conditioned.evaluate(inputs, step, entries, seam, settings)

    def _guided(self, *branches: Tensor) -> Tensor:
        if len(branches) == 1:
            return branches[0]
        negative, conditional = branches
        return negative + self.guidance * (conditional - negative)

    def _x0(self, prediction: Tensor, x: Tensor, step: int) -> Tensor:
        node = self.nodes[step]
        return to_x0(self.prediction, prediction.to(x.dtype), x, node.alpha, node.sigma)
