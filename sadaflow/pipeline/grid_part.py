"""Where a call with a picture begins on its grid, and where it ends."""

import math
from typing import Any

from sadaflow.solvers import Adaptive, Grid, RectifiedFlow, VPDiscrete, from_point, up_to_point
from sadaflow.solvers.inversion import reversible

from ..families import Family, Request
from ..families.hooks import REFERENCE
from ..families.unet import FIRST_FRAME, PICTURE


def starts_by_strength(request: Request) -> bool:
    """Whether the strength says where the request begins."""
    return request.start_step is None and request.denoising_start is None


def first_step(request: Request, grid: Grid, up: bool) -> int:
    """Index of the grid point at which a request begins; the number of steps if it takes none.

    Args:
        request: A request with a picture.
        grid: The whole grid.
        up: Whether the number of steps taken, steps * strength, is rounded up, as published for flow models, or down.

    Raises:
        ValueError: If so low a strength, or so late a start, leaves no step.
    """
    steps = grid.n_steps
    if request.start_step is not None:
        if request.start_step >= steps:
            raise ValueError(f"start_step={request.start_step} of {steps} steps: the last one is {steps - 1}")
        return request.start_step
    if request.denoising_start is not None:
        first = int((grid.timestep >= _cutoff(grid, "denoising_start", request.denoising_start)).sum())
        if first == steps:
            raise ValueError(f"denoising_start={request.denoising_start:g} of {steps} steps leaves no step to take")
        return first
    strength = request.effective_strength
    first = int(max(steps - min(steps * strength, steps), 0)) if up else steps - min(int(steps * strength), steps)
    if first == steps and strength > 0:
        raise ValueError(
            f"strength={strength:g} of {steps} steps is less than one step: give at least "
            f"{math.ceil(1000 / steps) / 1000:g}, more steps, or strength=0 for the picture itself"
        )
    return first


def on_its_part(solver: Any, request: Request, family: Family) -> Any:
    """The solver on the part of its grid that a request takes; with a source prompt the grid ends above clean data.

    Raises:
        ValueError: If the solver has no grid to take a part of.
    """
    begins = request.starts_from_data and getattr(family, "reads", None) not in (PICTURE, REFERENCE, FIRST_FRAME)
    if not begins and request.denoising_end is None:
        return solver
    if isinstance(solver, Adaptive):
        raise ValueError("a call with image= begins on a point of a grid, and an adaptive solver has none: use another")
    if request.source_prompt is not None:
        solver = reversible(solver)
    last = last_step(request, solver.grid)
    first = first_step(request, solver.grid, isinstance(solver.grid.schedule, RectifiedFlow)) if begins else 0
    if first >= last:
        raise ValueError(f"the call begins at step {first} and ends before step {last}: it takes no step")
    begun = from_point(solver, first) if begins else solver
    return up_to_point(begun, last - first)


def last_step(request: Request, grid: Grid) -> int:
    """Index of the grid point at which a request ends."""
    if request.denoising_end is None:
        return grid.n_steps
    last = int((grid.timestep >= _cutoff(grid, "denoising_end", request.denoising_end)).sum())
    if last == 0:
        raise ValueError(f"denoising_end={request.denoising_end:g} of {grid.n_steps} steps takes no step")
    return last


def _cutoff(grid: Grid, name: str, fraction: float) -> int:
    """The timestep of a fraction of the schedule, as published for SDXL: steps at it or above come before it."""
    if not isinstance(grid.schedule, VPDiscrete):
        raise ValueError(f"{name}= is a fraction of a table of timesteps, and this checkpoint's schedule has none")
    train = grid.schedule.alphas_cumprod.numel()
    return round(train - fraction * train)
