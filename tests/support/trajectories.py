"""Whole trajectories by Diffusers' schedulers and by ours, on the exact denoiser of a Gaussian mixture."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sadaflow.solvers import SolverSetup, from_scheduler_config, from_x0, to_x0
from sadaflow.solvers.checks.problems import mixture

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
TOLERANCE = 1e-5


def noise() -> Tensor:
    return torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ours(setup: SolverSetup) -> list[Tensor]:
    """Every x of a trajectory, the start included; the network is asked through its prediction type."""
    data, state, seen = mixture(), setup.solver.start(noise()), []
    while state.step < setup.solver.n_evals:
        seen.append(state.x)
        node = setup.solver.nodes[state.step]
        clean = data.x0(state.x, node.alpha, node.sigma)
        output = from_x0(setup.prediction, clean, state.x, node.alpha, node.sigma)
        state = setup.solver.step(state, to_x0(setup.prediction, output, state.x, node.alpha, node.sigma))
    return [*seen, state.x]


def theirs(scheduler: Any, setup: SolverSetup, frame: Any, atol: float = 5e-3, **generator: Any) -> list[Tensor]:
    """The same by Diffusers; `frame(scheduler, index)` turns its x into x = alpha x0 + sigma eps."""
    data, x, seen = mixture(), noise() * getattr(scheduler, "init_noise_sigma", 1.0), []
    told = [node.timestep for node in setup.solver.nodes]
    # Diffusers evaluates once more where the last step has length zero; ours leaves that evaluation out.
    timesteps = scheduler.timesteps[: len(told)]
    assert len(scheduler.timesteps) - len(told) in (0, 1)
    # float32 tables move a fractional timestep by a little, and one that is cut off by 1 where it is nearly whole.
    torch.testing.assert_close(timesteps.double(), torch.tensor(told).double(), rtol=0, atol=atol)
    for index, t in enumerate(timesteps):
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        seen.append(x * frame(scheduler, index))
        node = setup.solver.nodes[index]
        clean = data.x0(scaled, node.alpha, node.sigma)
        output = from_x0(setup.prediction, clean, scaled, node.alpha, node.sigma)
        x = scheduler.step(output, t, x, return_dict=False, **generator)[0]
    return [*seen, x * frame(scheduler, len(timesteps))]


def unit(scheduler: Any, index: int) -> float:
    return 1.0


def scaled(scheduler: Any, index: int) -> float:
    """From the frame of alpha = 1 to the variance-preserving one."""
    return 1 / (1 + float(scheduler.sigmas[index]) ** 2) ** 0.5


def worst(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest difference over a trajectory, relative to the largest |x| at that point."""
    return max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(a, b, strict=True))


@dataclass(frozen=True)
class Recorded:
    """A noise source that hands out the draws that a torch generator gives Diffusers, one a step."""

    seed: int = 5

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        draws = [torch.randn(like.shape, generator=generator, dtype=self.dtype(like)) for _ in range(index)]
        return draws[-1].to(like)

    def dtype(self, like: Tensor) -> torch.dtype:
        return like.dtype


class RecordedFloat32(Recorded):
    """For schedulers that draw in float32 whatever the sample's dtype."""

    def dtype(self, like: Tensor) -> torch.dtype:
        return torch.float32


def compare(scheduler_class: Any, config: dict[str, Any], steps: int, frame: Any, **options: Any) -> float:
    """The worst relative difference of whole trajectories.

    `options`: sigmas and mu for Diffusers' `set_timesteps`, image_tokens and noise for ours, the tolerance `atol` of
    timesteps, and `float64`, which raises the precision of Diffusers' coefficients.
    """
    scheduler = scheduler_class(**config)
    given = {key: options[key] for key in ("image_tokens", "noise") if key in options}
    setup = from_scheduler_config({"_class_name": scheduler_class.__name__, **config}, steps, **given)
    asked = {key: options[key] for key in ("sigmas", "mu") if key in options}
    scheduler.set_timesteps(**asked, **({} if "sigmas" in asked else {"num_inference_steps": steps}))
    if options.get("float64"):
        scheduler.sigmas = scheduler.sigmas.double()
    generator = {"generator": torch.Generator().manual_seed(5)} if "noise" in options else {}
    return worst(ours(setup), theirs(scheduler, setup, frame, options.get("atol", 5e-3), **generator))
