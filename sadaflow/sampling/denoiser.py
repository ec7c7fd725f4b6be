"""Denoisers: what solvers and accelerators call. They apply guidance and convert the network's prediction to x0."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.solvers import Node, Prediction, Solver, input_scale, to_x0

from ..guidance import Needs, Rule, as_rule
from ..guidance.picture import PictureGuidance
from ..guidance.running import GuidanceRun, require_pointwise
from .conditioning import Backbone, Conditioned, ConditionedStages, conditioned
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


def evaluates_rows(denoise: object) -> TypeGuard[RowDenoise]:
    """Whether a denoiser is a `RowDenoise`: asked at every step, where `isinstance` of a protocol takes 50 us."""
    return callable(getattr(denoise, "evaluate", None))


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


@runtime_checkable
class SharedDenoise(Denoise, Protocol):
    """A denoiser whose evaluations do not all need every branch of guidance."""

    @property
    def branches(self) -> int:
        """Number of branches of a full evaluation."""
        ...

    def share(self, step: int) -> float:
        """Cost of evaluation `step`, in units of an evaluation of all branches."""
        ...


def has_shares(denoise: object) -> TypeGuard[SharedDenoise]:
    """Whether a denoiser is a `SharedDenoise`; see `evaluates_rows`."""
    return hasattr(denoise, "share") and hasattr(denoise, "branches")


@dataclass(frozen=True)
class GuidedDenoiser:
    """Guidance around a backbone: classifier-free guidance, or any rule of `sadaflow.guidance`.

    With a branch of the picture alone (Brooks et al. 2023, arXiv 2211.09800) the guided prediction is negative +
    picture_guidance (picture - negative) + guidance (conditional - picture). The state keeps its dtype; the network is
    called with x times the `input_scale` of its prediction type, in `dtype`. What a `PreparedBackbone` can compute
    before sampling is computed when the denoiser is made. `sample` begins the memory of a rule anew for each run.

    Attributes:
        backbone: The network.
        nodes: The solver's nodes, one per evaluation.
        prediction: What the network predicts.
        conditional: Conditioning of the conditional branch, (B, ...) each.
        negative: Conditioning of the negative branch, (B, ...) each; None without guidance.
        guidance: Guidance scale, or a rule.
        dtype: Dtype of the network's weights.
        settings: Keyword arguments of the backbone that are the same for all samples, one mapping per node.
        split_guidance: Whether the branches are evaluated one after the other, if no seam is used. This takes less
            memory and usually more time. Otherwise both are evaluated in one call.
        calibrations: What was measured of the backbone, for accelerators.
        picture: Conditioning of the branch that has the picture and no prompt, (B, ...) each; None without it.
        picture_guidance: Guidance scale of that branch.
        others: Conditioning of the further conditions of `Compose`, in order, (B, ...) each.
        blend: What the conditional branch becomes in the course of the evaluations; None if it stays what it is.
    """

    backbone: Backbone
    nodes: Sequence[Node]
    prediction: Prediction
    conditional: Mapping[str, Tensor]
    negative: Mapping[str, Tensor] | None
    guidance: float | Rule
    dtype: torch.dtype
    settings: Sequence[Mapping[str, Any]] | None = None
    split_guidance: bool = False
    calibrations: Sequence[Any] = ()
    picture: Mapping[str, Tensor] | None = None
    picture_guidance: float = 1.0
    others: Sequence[Mapping[str, Tensor]] = ()
    blend: Blend | None = None
    _conditioned: Conditioned | ConditionedStages | BlendedConditioned = field(init=False, repr=False, compare=False)
    _run: GuidanceRun | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = (self.negative, self.picture, *self.others, self.conditional)
        branches = [branch for branch in given if branch is not None]
        timesteps = [node.timestep for node in self.nodes]
        if self.blend is not None and len(self.blend.weights) != len(timesteps):
            raise ValueError(f"a blend of {len(self.blend.weights)} weights for {len(timesteps)} evaluations")
        arguments = self.backbone, timesteps, branches
        made = conditioned(*arguments) if self.blend is None else BlendedConditioned(*arguments, self.blend)
        object.__setattr__(self, "_conditioned", made)
        run = None
        if self.negative is not None:
            run = GuidanceRun(self.rule, self.nodes, self.prediction, made.samples)
            require_branches(run, len(branches))
        object.__setattr__(self, "_run", run)

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), call_through)

    def at(self, node: Node) -> "GuidedDenoiser":
        """The denoiser of one node, which adaptive solvers choose on the way; its `settings` must be the same there."""
        if self._run is not None:
            require_pointwise(self._run.rule)
        return replace(self, nodes=(node,), settings=None if self.settings is None else self.settings[:1])

    def begun(self, solver: Solver) -> Self:
        """The denoiser at the beginning of a run of a solver, with the memory of its guidance rule empty."""
        made = copy.copy(self)
        if self._run is not None:
            object.__setattr__(made, "_run", self._run.begun(self.nodes, solver))
        return made

    @property
    def rule(self) -> Rule:
        """The guidance rule."""
        rule = as_rule(self.guidance)
        return rule if self.picture is None else PictureGuidance(rule, self.picture_guidance)

    @property
    def has_negative(self) -> bool:
        """Whether there is a negative branch."""
        return self.negative is not None

    @property
    def branches(self) -> int:
        """Number of branches of a full evaluation."""
        return 1 if self._run is None else self._run.branches

    def share(self, step: int) -> float:
        """Cost of evaluation `step`, in units of an evaluation of all branches."""
        return 1.0 if self._run is None else self._run.share(step)

    def evaluate(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the samples `rows`, whose states are x (len(rows), C, h, w)."""
        return self._x0(self._outputs(x, step, rows, seam)[0], x, step)

    def evaluate_branches(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> tuple[Tensor, Tensor]:
        """The guided x0, as from `evaluate`, and the x0 of the conditional branch; both as x."""
        guided, conditional = self._outputs(x, step, rows, seam)
        return self._x0(guided, x, step), self._x0(conditional, x, step)

    def evaluate_conditional(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the conditional branch, which alone is evaluated."""
        return self._x0(self._predictions([self.branches - 1], x, step, rows, seam), x, step)

    def _outputs(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> tuple[Tensor, Tensor]:
        """The guided prediction and that of the conditional branch."""
        needs = Needs.CONDITIONAL if self._run is None else self._run.needs(step)
        if needs is Needs.NOTHING:
            return torch.zeros_like(x), torch.zeros_like(x)
        if self._run is None or needs is Needs.CONDITIONAL:
            alone = self._predictions([self.branches - 1], x, step, rows, seam)
            return alone, alone
        outputs = self._evaluated(x, step, rows, seam)
        return self._run.guided(outputs, x, step, rows), outputs[-1]

    def _evaluated(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Sequence[Tensor]:
        """The network's predictions by branch, the conditional branch last."""
        branches = range(self.branches)
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

    def _x0(self, prediction: Tensor, x: Tensor, step: int) -> Tensor:
        node = self.nodes[step]
        return to_x0(self.prediction, prediction.to(x.dtype), x, node.alpha, node.sigma)


def require_branches(run: GuidanceRun, branches: int) -> None:
    """Raises ValueError if a rule needs another number of branches than a denoiser has."""
    if run.branches != branches:
        raise ValueError(
            f"the guidance rule combines {run.branches} branches, and this denoiser has {branches}: Compose needs the "
            "conditioning of each of its further conditions, and does not combine with the picture branch of "
            "InstructPix2Pix"
        )
