"""A denoiser whose evaluations are divided among processes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Self

from torch import Tensor

from sadaflow.models import Seam
from sadaflow.sampling.denoiser import GuidedDenoiser, Rows

from .axis import Axis
from .context import ContextSeam


@dataclass(frozen=True)
class ParallelDenoiser(GuidedDenoiser):
    """A `GuidedDenoiser` that several processes evaluate together. All make the same calls and get the same bits.

    Along the guidance axis each process evaluates one branch, and predictions are exchanged; if only one branch is
    needed, both processes evaluate it. Along the context axis each computes a part of the tokens.

    Attributes:
        guidance_axis: The two processes that evaluate a branch each; None if each evaluates both.
        context_axis: The processes that divide the tokens; None if each computes all.
    """

    guidance_axis: Axis | None = field(kw_only=True)
    context_axis: Axis | None = field(kw_only=True)

    @classmethod
    def among(cls, denoise: GuidedDenoiser, guidance: Axis | None, context: Axis | None) -> Self:
        """Divides the evaluations of a denoiser.

        Args:
            denoise: The denoiser.
            guidance: The two processes that evaluate a branch each; None if each evaluates both.
            context: The processes that divide the tokens; None if each computes all.

        Raises:
            ValueError: if there is no negative branch, or the network's `sites` have no trunk.
        """
        if guidance is not None and denoise.negative is None:
            raise ValueError(
                "Parallel(guidance=2) runs the two branches of classifier-free guidance in two processes, and this "
                "denoiser has no negative branch: guidance is 1 or less, or embedded in the network (Flux needs "
                "true_guidance > 1). Use context parallelism alone"
            )
        sites = getattr(denoise.backbone, "sites", None)
        if context is not None and sites is not None and "trunk" not in sites:
            _refuse_context()
        made = object.__new__(cls)  # not initialised: that would prepare the conditioning again
        split = denoise.split_guidance and guidance is None
        vars(made).update(vars(denoise), guidance_axis=guidance, context_axis=context, split_guidance=split)
        return made

    def _predictions(self, branches: Sequence[int], x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        guidance, context = self.guidance_axis, self.context_axis
        apart = guidance is not None and len(branches) == 2
        if guidance is not None and apart:
            _refuse_deciding(seam)
            branches = [branches[guidance.rank]]
        if context is None:
            prediction = super()._predictions(branches, x, step, rows, seam)
        else:
            shared = ContextSeam(context, seam)
            prediction = super()._predictions(branches, x, step, rows, shared)
            if not shared.met:
                _refuse_context()
            prediction = context.gather(prediction)[0]
        if guidance is None:
            return prediction
        gathered = guidance.gather(prediction)
        return gathered.flatten(0, 1) if apart else gathered[0]


def _refuse_context() -> NoReturn:
    raise ValueError(
        "context parallelism divides the tokens of a transformer (Flux), and this network has no trunk of blocks: "
        "use Parallel(guidance=2), or a prompt per process (docs/many.md)"
    )


def _refuse_deciding(seam: Seam) -> None:
    if getattr(seam, "decides", False):
        raise ValueError(
            "this accelerator decides inside the network from both branches of guidance, and Parallel(guidance=2) runs "
            "them in different processes: use context parallelism, or an accelerator that decides outside the network "
            "or by a schedule"
        )
