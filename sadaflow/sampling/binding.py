"""Binds denoisers that do not know their nodes to those of a solver."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from sadaflow.solvers import Adaptive, Node, Solver
from sadaflow.solvers.grid import point_at

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
    return denoise.over(_nodes(solver), noise)


def _nodes(solver: Solver | Adaptive) -> Sequence[Node]:
    if not isinstance(solver, Adaptive):
        return solver.nodes
    start = point_at(solver.schedule, solver.t_start)
    return (Node(start.t, start.alpha, start.sigma, float(solver.schedule.timestep(start.t))),)
