"""Edit-friendly inversion: the noise that a stochastic solver would have drawn on a path to given states."""

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from sadaflow.solvers import NoiseSource, Solver, State

from ..denoiser import Denoise
from .results import InversionStats, Inverted
from .walk import Walk, relative


@dataclass(frozen=True, eq=False)
class ReplayedNoise:
    """Noise that was found by inversion, in place of draws.

    Attributes:
        noise: (evaluations, B, ...), the noise before each evaluation but the first, and that of the last step.
    """

    noise: Tensor

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        """Returns the noise of evaluation `index`, shaped as `like`; see `NoiseSource`."""
        found = self.noise[index - 1]
        if found.shape != like.shape:
            raise ValueError(f"the noise found is that of states {tuple(found.shape)}, not {tuple(like.shape)}")
        return found.to(like)


@dataclass(frozen=True)
class _Constant:
    """A noise source of a constant, which shows how a step depends on its noise."""

    value: float

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        """Returns the constant, shaped as `like`."""
        return torch.full_like(like, self.value)


def invert_edit_friendly(solver: Solver, denoise: Denoise, x: Tensor, noise: NoiseSource) -> Inverted:
    """Finds noise with which a stochastic solver's own steps lead to x.

    Each state on the path is drawn from x independently, x_k = alpha_k x + sigma_k eps_k, so that it holds more of the
    picture than states of a chain do. The noise of a step is what then leads from one state to the next,

        z_k = (x_{k+1} - mean_k) / std_k.

    It is not normal, and depends on its neighbours. A step without noise leads to its mean.

    Source: Huberman-Spiegelglas et al. 2024, arXiv 2304.06140, eq. 5 and Algorithm 1.

    Args:
        solver: A solver that draws noise in its steps; its grid ends above clean data.
        denoise: Its denoiser.
        x: States to invert, at the last point of the grid, (B, ...).
        noise: Draws the eps_k, unit normal.

    Raises:
        ValueError: If the solver draws no noise in its last step, which must lead to x.
    """
    walk, rows = Walk(solver, denoise, len(x)), range(len(x))
    still, moved = (_drawing(solver, _Constant(value)) for value in (0.0, 1.0))
    ends, data = [*solver.nodes[1:], solver.grid.points[-1]], x / solver.grid.points[-1].alpha
    start = solver.nodes[0]
    first = start.alpha * data + start.sigma * noise(0, (1.0, 0.0), x)
    state, found = State(first), []
    for evaluation, end in enumerate(ends):
        x0 = walk.x0(state.x, evaluation, rows)
        mean = still.step(state, x0)
        spread = (moved.step(state, x0).x - mean.x).flatten()[0]
        last = evaluation == len(ends) - 1
        if not bool(spread > 1e-6):
            if last:
                raise ValueError(f"{type(solver).__name__} draws no noise in its last step, so it leads nowhere else")
            found.append(torch.zeros_like(x))
            state = mean
            continue
        target = x if last else end.alpha * data + end.sigma * noise(evaluation + 1, (1.0, 0.0), x)
        found.append((target - mean.x) / spread)
        state = replace(mean, x=target)
    replaying = _drawing(solver, ReplayedNoise(torch.stack(found)))
    back = Walk(replaying, denoise, len(x))
    error = relative(back.run(first) - x, x).tolist()
    nfe = [there + again for there, again in zip(walk.nfe, back.nfe, strict=True)]
    return Inverted(first, replaying, InversionStats("edit-friendly", nfe, 1, error))


def _drawing(solver: Solver, noise: NoiseSource) -> Solver:
    """The solver with another noise source."""
    drawing: Solver = replace(cast(Any, solver), noise=noise)
    return drawing
