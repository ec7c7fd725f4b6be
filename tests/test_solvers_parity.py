"""Whole trajectories against Diffusers' schedulers, on the exact denoiser of a Gaussian mixture.

Diffusers keeps its tables, and x inside `step`, in float32 whatever the dtype given: what remains is that rounding.
"""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler
from diffusers import FlowMatchEulerDiscreteScheduler as FlowMatchEuler
from solver_problems import mixture
from torch import Tensor

from sadaflow.solvers import SolverSetup, from_scheduler_config, from_x0, to_x0

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
STEPS = [10, 20, 50]
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


def theirs(scheduler: Any, setup: SolverSetup, frame: Any) -> list[Tensor]:
    """The same by Diffusers; `frame(scheduler, index)` turns its x into x = alpha x0 + sigma eps."""
    data, x, seen = mixture(), noise() * getattr(scheduler, "init_noise_sigma", 1.0), []
    told = [node.timestep for node in setup.solver.nodes]
    torch.testing.assert_close(scheduler.timesteps.double(), torch.tensor(told).double(), rtol=0, atol=5e-3)
    for index, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        seen.append(x * frame(scheduler, index))
        node = setup.solver.nodes[index]
        clean = data.x0(scaled, node.alpha, node.sigma)
        output = from_x0(setup.prediction, clean, scaled, node.alpha, node.sigma)
        x = scheduler.step(output, t, x, return_dict=False)[0]
    return [*seen, x * frame(scheduler, len(scheduler.timesteps))]


def unit(scheduler: Any, index: int) -> float:
    return 1.0


def scaled(scheduler: Any, index: int) -> float:
    """From the frame of alpha = 1 to the variance-preserving one."""
    return 1 / (1 + float(scheduler.sigmas[index]) ** 2) ** 0.5


def worst(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest difference over a trajectory, relative to the largest |x| at that point."""
    return max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(a, b, strict=True))


def compare(scheduler_class: Any, config: dict[str, Any], steps: int, frame: Any, **set_timesteps: Any) -> float:
    scheduler = scheduler_class(**config)
    setup = from_scheduler_config({"_class_name": scheduler_class.__name__, **config}, steps)
    if set_timesteps:
        scheduler.set_timesteps(**set_timesteps)
    else:
        scheduler.set_timesteps(steps)
    return worst(ours(setup), theirs(scheduler, setup, frame))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_euler(spacing: str, karras: bool, prediction: str, steps: int) -> None:
    config = {**SD, "timestep_spacing": spacing, "use_karras_sigmas": karras, "prediction_type": prediction}
    config |= {"steps_offset": 1} if spacing == "leading" else {}
    assert compare(EulerDiscreteScheduler, config, steps, scaled) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpmpp(order: int, spacing: str, karras: bool, prediction: str, steps: int) -> None:
    config = {**SD, "timestep_spacing": spacing, "use_karras_sigmas": karras, "prediction_type": prediction}
    config |= {"solver_order": order, "steps_offset": 1 if spacing == "leading" else 0}
    assert compare(DPMSolverMultistepScheduler, config, steps, unit) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("to_one", [False, True])
def test_ddim_and_pndm(to_one: bool, prediction: str, steps: int) -> None:
    config = {**SD, "steps_offset": 1, "set_alpha_to_one": to_one, "prediction_type": prediction}
    assert compare(DDIMScheduler, {**config, "clip_sample": False}, steps, unit) < TOLERANCE
    assert compare(PNDMScheduler, {**config, "skip_prk_steps": True}, steps, unit) < TOLERANCE


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_other_tables_and_ends(schedule: str, final: str) -> None:
    config = {"beta_schedule": schedule, "final_sigmas_type": final, "prediction_type": "v_prediction"}
    # Diffusers' Euler subtracts, in float32, numbers of the size of sigma/alpha: 20291 at the cosine table's end, where
    # the next point has 12.8, so it loses about 20291 / 12.8 float32 roundings in that step. Ours never forms them.
    lost = 2.0**-23 * 20291 / 12.8 if schedule == "squaredcos_cap_v2" else 0.0
    config_euler = {**config, "timestep_spacing": "trailing"}
    assert compare(EulerDiscreteScheduler, config_euler, 20, scaled) < max(TOLERANCE, lost)
    assert compare(DPMSolverMultistepScheduler, {**config, "solver_type": "heun"}, 20, unit) < TOLERANCE
    assert compare(DPMSolverMultistepScheduler, {**config, "lower_order_final": False}, 10, unit) < TOLERANCE
    assert compare(DPMSolverMultistepScheduler, {**config, "euler_at_final": True}, 20, unit) < TOLERANCE


def test_zero_terminal_snr() -> None:
    config = {**SD, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    assert compare(EulerDiscreteScheduler, config, 20, scaled) < TOLERANCE
    assert compare(DPMSolverMultistepScheduler, config, 20, unit) < TOLERANCE
    assert compare(DDIMScheduler, {**config, "clip_sample": False}, 20, unit) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rule", ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", None])
def test_flow(rule: str | None, steps: int) -> None:
    config: dict[str, Any] = {"shift": 3.0, **({rule: True} if rule else {})}
    given = {"sigmas": [1 - i / steps for i in range(steps)]}
    assert compare(FlowMatchEuler, config, steps, unit, **given) < TOLERANCE
