"""Binds denoisers that do not know their nodes to those of a solver."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from sadaflow.solvers import Adaptive, Node, Solver

from .denoiser import Denoise, has_shares


@runtime_checkable
class UnboundDenoise(Protocol):
    """A denoiser that is made for no nodes in particular."""

    def over(self, nodes: Sequence[Node], noise: Tensor | None = None) -> Denoise:
        """The denoiser bound to the nodes of a run from `noise` (B, ...)."""
        ...


def bound(denoise: Denoise, solver: Solver | Adaptive, noise: Tensor) -> Denoise:
    """`denoise` bound to the nodes of a solver; unchanged if it needs no binding.

    That of an adaptive solver, which chooses its nodes on the way, is bound to the first one.

    Raises:
        ValueError: if it does not fit the nodes, the noise or the solver.
    """
    if isinstance(denoise, UnboundDenoise):
        denoise = denoise.over(solver.nodes, noise)
    return denoise if isinstance(solver, Adaptive) else begun(denoise, solver)


def begun(denoise: Any, solver: Solver) -> Any:
    """`denoise` at the beginning of a run of a solver, if it remembers anything of a run; otherwise unchanged."""
    begin = getattr(denoise, "begun", None)
    return denoise if begin is None else begin(solver)


def share_of(denoise: object, step: int) -> float:
    """Cost of evaluation `step` of a denoiser, in units of an evaluation of all its branches."""
    return denoise.share(step) if has_shares(denoise) else 1.0
