"""Measures accelerator and solver by themselves at the size of SDXL, with a cheap function instead of the network."""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from sadaflow.solvers import Solver, from_scheduler_config

from ...accelerators import Accelerator
from ...accelerators.forwarding import begin_run
from ...sampling.denoiser import Denoise
from ...sampling.loop import sample
from .architectures import architecture

SHAPE: Final = (1, 4, 128, 128)
PLAIN: Final = "plain"


def settings(
    accelerators: Mapping[str, Accelerator], steps: int, device: torch.device, solver: str | None = None
) -> dict[str, Callable[[], Mapping[str, float]]]:
    """Returns what `interleaved` runs.

    Each function returns seconds per step in the accelerator ("controller") and in solver and loop ("solver"), and
    network evaluations ("nfe").
    """
    chosen = _solver(steps, solver)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(device)
    denoise = _gaussian(chosen, device)

    def timed(accelerator: Accelerator | None) -> Callable[[], Mapping[str, float]]:
        def measure() -> Mapping[str, float]:
            stats = sample(chosen, denoise, noise, accelerator).stats
            rest = stats.seconds - stats.network_seconds - stats.controller_seconds
            controller = stats.controller_seconds / steps
            return {"controller": controller, "solver": rest / steps, "nfe": stats.nfe[0]}

        return measure

    return {PLAIN: timed(None)} | {name: timed(accelerator) for name, accelerator in accelerators.items()}


def unfit(accelerators: Mapping[str, Accelerator], steps: int, solver: str | None = None) -> dict[str, str]:
    """Returns the accelerators that cannot be measured this way, with the reason.

    They need more steps, or act inside the network or on its guidance branches.
    """
    found = {}
    for name, accelerator in accelerators.items():
        try:
            run = begin_run(accelerator, _solver(steps, solver), torch.Size(SHAPE), seams=False)
        except ValueError as error:
            found[name] = str(error)
        else:
            if run.capabilities.omits_negative:
                found[name] = "it skips branches of guidance, and there are none here"
    return found


def _solver(steps: int, solver: str | None) -> Solver:
    return from_scheduler_config(architecture("random-sdxl").scheduler, steps, solver=solver).solver


def _gaussian(solver: Solver, device: torch.device) -> Denoise:
    """Returns the denoiser of independent normal variables; standard deviations fall from 1 to 1/8 over columns."""
    variance = torch.logspace(0, -6, SHAPE[-1], base=2, device=device)

    def denoise(x: Tensor, step: int) -> Tensor:
        node = solver.nodes[step]
        return x * (node.alpha * variance / (node.alpha**2 * variance + node.sigma**2))

    return denoise
