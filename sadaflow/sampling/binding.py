"""Binds denoisers that do not know their nodes to those of a solver."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from sadaflow.solvers import Adaptive, Node, Solver

from .denoiser import Denoise


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
        ValueError: if it does not fit the nodes or the noise.
    """
    if not isinstance(denoise, UnboundDenoise):
        return denoise
    return denoise.over(solver.nodes, noise)
