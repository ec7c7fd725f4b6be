"""Analytic problems: a Gaussian mixture with its exact denoiser."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor

from sadaflow.models import Seam
from sadaflow.solvers import Grid, Solver, from_scheduler_config
from sadaflow.solvers.exact import GaussianMixture

from ...accelerators import Accelerator
from ...pipeline.inputs import initial_noise
from ...sampling.loop import sample
from .subject import Made

SHAPE: Final = (3, 8, 8)
"""Shape of a sample."""
_VP: Final = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
_FLOW: Final = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000}


@lru_cache(maxsize=1)
def mixture() -> GaussianMixture:
    """Returns a mixture of six Gaussians in 192 dimensions, each with an eigenbasis of its own.

    Variances fall by a power law, as those of pictures do over frequencies. The variance between the means and the
    variance within a Gaussian are about equal, and add up to 1 per dimension.
    """
    size, modes, generator = 192, 6, torch.Generator().manual_seed(0)
    spectrum = torch.arange(1, size + 1, dtype=torch.float64) ** -1.5
    spectrum = 0.5 * size * spectrum / spectrum.sum()

    def basis() -> Tensor:
        return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]

    common = basis()
    means = (torch.randn(modes, size, generator=generator, dtype=torch.float64) * spectrum.sqrt()) @ common.mT
    bases = torch.stack([basis() for _ in range(modes)])
    covariances = bases @ torch.diag(spectrum) @ bases.mT
    weights = torch.full((modes,), 1 / modes, dtype=torch.float64)
    return GaussianMixture(weights, means, (covariances + covariances.mT) / 2)


@dataclass(frozen=True)
class Exact:
    """The exact denoiser of the mixture.

    Attributes:
        solver: The solver whose nodes it is evaluated at.
        calibrations: What was measured of it, for accelerators.
    """

    solver: Solver
    calibrations: Sequence[Any] = ()

    def __call__(self, x: Tensor, step: int) -> Tensor:
        node = self.solver.nodes[step]
        return mixture().x0(x, node.alpha, node.sigma)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        return self(x, step)


@dataclass(frozen=True, eq=False)
class MixtureSubject:
    """The Gaussian mixture on the schedule of a scheduler config, in float64. It ignores prompts and has no pictures.

    Attributes:
        config: Scheduler config in the layout of Diffusers.
        calibrations: What was measured of it, for accelerators.
    """

    config: Mapping[str, Any]
    fingerprint: str = "mixture-1"
    shape: torch.Size = torch.Size((1, *SHAPE))
    network: object = None
    calibrations: Sequence[Any] = ()

    def solver(self, name: str, steps: int, grid: Grid | None = None) -> Solver:
        steps = steps if grid is None else grid.n_steps
        return from_scheduler_config(self.config, steps, solver=name, grid=grid).solver

    def run(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float | None,
        solver: Solver,
        accelerator: Accelerator | None,
    ) -> Made:
        sampled = sample(solver, Exact(solver, self.calibrations), initial_noise(SHAPE, seeds).double(), accelerator)
        return Made(sampled.x, None, sampled.stats)


ANALYTIC: Final[Mapping[str, Callable[[], MixtureSubject]]] = {
    "mixture-vp": lambda: MixtureSubject(_VP),
    "mixture-flow": lambda: MixtureSubject(_FLOW),
}
