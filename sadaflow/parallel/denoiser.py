"""A denoiser of which every process computes a share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Self

from torch import Tensor

from sadaflow.models import Seam
from sadaflow.sampling.denoiser import GuidedDenoiser, Rows

from .context import ContextSeam

if TYPE_CHECKING:
    from .mesh import Parallel


@dataclass(frozen=True)
class ParallelDenoiser(GuidedDenoiser):
    """A `GuidedDenoiser` over several processes, which all call it alike; its answers are the same bits for all.

    Along `parallel.guidance` each process runs one branch, and predictions are exchanged; where one branch is asked
    for, both run it. Along `parallel.context` each computes a share of the tokens.
    """

    parallel: "Parallel" = field(kw_only=True)

    @classmethod
    def over(cls, parallel: "Parallel", denoise: GuidedDenoiser) -> Self:
        """`denoise` over the processes of `parallel`; ValueError where one of them has no branch to run, or the
        network says that it has no tokens to share."""
        if parallel.guidance is not None and denoise.negative is None:
            raise ValueError(
                "Parallel(guidance=2) runs the two branches of classifier-free guidance in two processes, and this "
                "denoiser has no negative one: guidance is 1 or less, or embedded in the network (Flux needs "
                "true_guidance > 1). Use context parallelism alone"
            )
        sites = getattr(denoise.backbone, "sites", None)
        if parallel.context is not None and sites is not None and "trunk" not in sites:
            _refuse_context()
        made = object.__new__(cls)  # and not initialised, which would prepare the conditioning again
        together = parallel.guidance is not None or not denoise.split_guidance
        vars(made).update(vars(denoise), parallel=parallel, split_guidance=not together)
        return made

    def _predictions(self, branches: Sequence[int], x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        guidance, context = self.parallel.guidance, self.parallel.context
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
        "context parallelism shares out the tokens of a transformer (Flux), and this network has no trunk of blocks: "
        "use Parallel(guidance=2), or a prompt per process (docs/many.md)"
    )


def _refuse_deciding(seam: Seam) -> None:
    if getattr(seam, "decides", False):
        raise ValueError(
            "this accelerator decides inside the network by what both branches of guidance show, and Parallel(guidance"
            "=2) runs them apart: use context parallelism, or an accelerator that decides outside or by a schedule"
        )
