"""Denoisers: what solvers and accelerators call. They apply guidance and convert the network's prediction to x0."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.solvers import Node, Prediction, input_scale, to_x0

from .conditioning import Backbone, Conditioned
from .guided_length import with_length_of
from .prompt_blend import Blend, BlendedConditioned

Rows = Sequence[int]


class Denoise(Protocol):
    """A callable that returns the predicted x0 for the states x (B, ...) at evaluation `step`, of the same shape."""

    def __call__(self, x: Tensor, step: int) -> Tensor: ...


@runtime_checkable
class RowDenoise(Denoise, Protocol):
    """A denoiser that can evaluate some samples of the batch only, and lets a seam into its network."""

    def evaluate(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of some samples of the batch.

        Args:
            x: States of these samples, (len(rows), ...).
            step: Index of the evaluation.
            rows: Indices of the samples in the batch.
            seam: Called at the sites of the network.

        Returns:
            x0, as x.
        """
        ...


@runtime_checkable
class BranchDenoise(RowDenoise, Protocol):
    """A denoiser with classifier-free guidance that can also evaluate its branches separately."""

    @property
    def has_negative(self) -> bool:
        """Whether there is a negative branch."""
        ...

    def evaluate_branches(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> tuple[Tensor, Tensor]:
        """The guided x0, as from `evaluate`, and the x0 of the conditional branch. Needs a negative branch."""
        ...

    def evaluate_conditional(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the conditional branch, which alone is evaluated."""
        ...


@dataclass(frozen=True)
class GuidedDenoiser:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598) around a backbone.

    The guided prediction is negative + guidance (conditional - negative). With a branch of the picture alone (Brooks et
    al. 2023, arXiv 2211.09800) it is negative + picture_guidance (picture - negative) + guidance (conditional -
    picture). The state keeps its dtype; the network is
    called with x times the `input_scale` of its prediction type, in `dtype`. What a `PreparedBackbone` can compute
    before sampling is computed when the denoiser is made.

    Attributes:
        backbone: The network.
        nodes: The solver's nodes, one per evaluation.
        prediction: What the network predicts.
        conditional: Conditioning of the conditional branch, (B, ...) each.
        negative: Conditioning of the negative branch, (B, ...) each; None without guidance.
        guidance: Guidance scale.
        dtype: Dtype of the network's weights.
        settings: Keyword arguments of the backbone that are the same for all samples, one mapping per node.
        split_guidance: Whether the branches are evaluated one after the other, if no seam is used. This takes less
            memory and usually more time. Otherwise both are evaluated in one call.
        calibrations: What was measured of the backbone, for accelerators.
        picture: Conditioning of the branch that has the picture and no prompt, (B, ...) each; None without it.
        picture_guidance: Guidance scale of that branch.
        keeps_length: Side of the tokens over which `with_length_of` corrects the guided prediction; None if it does
            not.
        blend: What the conditional branch becomes in the course of the evaluations; None if it stays what it is.
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
    calibrations: Sequence[Any] = ()
    picture: Mapping[str, Tensor] | None = None
    picture_guidance: float = 1.0
    keeps_length: int | None = None
    blend: Blend | None = None
    _conditioned: Conditioned | BlendedConditioned = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        branches = [branch for branch in (self.negative, self.picture, self.conditional) if branch is not None]
        timesteps = [node.timestep for node in self.nodes]
        if self.blend is not None and len(self.blend.weights) != len(timesteps):
            raise ValueError(f"a blend of {len(self.blend.weights)} weights for {len(timesteps)} evaluations")
        given = self.backbone, timesteps, branches
        conditioned = Conditioned(*given) if self.blend is None else BlendedConditioned(*given, self.blend)
        object.__setattr__(self, "_conditioned", conditioned)

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), call_through)

    def at(self, node: Node) -> "GuidedDenoiser":
        """The denoiser of one node, which adaptive solvers choose on the way; its `settings` must be the same there."""
        return replace(self, nodes=(node,), settings=None if self.settings is None else self.settings[:1])

    @property
    def has_negative(self) -> bool:
        """Whether there is a negative branch."""
        return self.negative is not None

    def evaluate(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the samples `rows`, whose states are x (len(rows), C, h, w)."""
        return self._x0(self._guided(*self._branches(x, step, rows, seam)), x, step)

    def evaluate_branches(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> tuple[Tensor, Tensor]:
        """The guided x0, as from `evaluate`, and the x0 of the conditional branch; both as x."""
        branches = self._branches(x, step, rows, seam)
        return self._x0(self._guided(*branches), x, step), self._x0(branches[-1], x, step)

    def evaluate_conditional(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the conditional branch, which alone is evaluated."""
        return self._x0(self._predictions([self._count - 1], x, step, rows, seam), x, step)

    @property
    def _count(self) -> int:
        """Number of branches."""
        return 1 + (self.negative is not None) + (self.picture is not None)

    def _branches(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Sequence[Tensor]:
        """The network's predictions by branch, the conditional branch last."""
        branches = range(self._count)
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
        negative, conditional = branches[0], branches[-1]
        if len(branches) == 2:
            guided = negative + self.guidance * (conditional - negative)
            return guided if self.keeps_length is None else with_length_of(conditional, guided, self.keeps_length)
        picture = branches[1]
        return negative + self.picture_guidance * (picture - negative) + self.guidance * (conditional - picture)

    def _x0(self, prediction: Tensor, x: Tensor, step: int) -> Tensor:
        node = self.nodes[step]
        return to_x0(self.prediction, prediction.to(x.dtype), x, node.alpha, node.sigma)
