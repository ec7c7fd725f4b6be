"""Checks that denoiser, solver and checkpoint agree on the points at which the network is evaluated."""

from collections.abc import Sequence

from sadaflow.solvers import Node, Schedule
from sadaflow.solvers.grid import point_at


def require_same_nodes(denoise: object, nodes: Sequence[Node]) -> None:
    """Checks a denoiser that was made for the nodes of a solver, as `GuidedDenoiser` is.

    Args:
        denoise: The denoiser; one without an attribute `nodes` is not checked.
        nodes: The nodes of the solver that it is used with.

    Raises:
        ValueError: if the numbers of nodes differ, or alpha, sigma or the timestep of a node.
    """
    own = getattr(denoise, "nodes", None)
    if own is None or own is nodes:
        return
    remedy = "make the denoiser for this solver: pipe.denoiser(solver, request)"
    if len(own) != len(nodes):
        raise ValueError(f"the denoiser was made for {len(own)} evaluations, and the solver has {len(nodes)}: {remedy}")
    for step, (a, b) in enumerate(zip(own, nodes, strict=True)):
        pairs = ((a.alpha, b.alpha), (a.sigma, b.sigma), (a.timestep, b.timestep))
        if any(abs(mine - other) > 1e-6 * (1 + abs(other)) for mine, other in pairs):
            raise ValueError(
                f"denoiser and solver differ at evaluation {step}: the denoiser has {_shown(a)}, the solver "
                f"{_shown(b)}: {remedy}"
            )


def require_schedule(schedule: Schedule, nodes: Sequence[Node]) -> None:
    """Checks that nodes lie on the kind of schedule that a checkpoint was trained with.

    Args:
        schedule: The checkpoint's noise schedule.
        nodes: The nodes of a solver.

    Raises:
        ValueError: if alpha and sigma of a node are those of another kind of schedule.
    """
    for step, node in enumerate(nodes):
        if node.pure_noise:
            continue
        right = point_at(schedule, float(schedule.t_from_log_snr(node.log_snr)))
        if max(abs(right.alpha - node.alpha), abs(right.sigma - node.sigma)) > 1e-3 * (1 + right.sigma):
            raise ValueError(
                f"the solver's grid is not on this checkpoint's schedule ({type(schedule).__name__}): at evaluation "
                f"{step} it has {_shown(node)}, where the same noise level is alpha={right.alpha:.4g}, "
                f"sigma={right.sigma:.4g}: make the solver with pipe.solver(name, steps)"
            )


def _shown(node: Node) -> str:
    return f"alpha={node.alpha:.4g}, sigma={node.sigma:.4g}, timestep={node.timestep:.6g}"
