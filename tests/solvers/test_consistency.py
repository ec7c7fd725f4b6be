"""DDPM, LCM, TCD and the flow classes of Heun and LCM against Diffusers: whole trajectories with the same noise."""

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMParallelScheduler,
    DDPMParallelScheduler,
    DDPMScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    LCMScheduler,
    TCDScheduler,
)

from sadaflow.solvers import SolverSetup, from_scheduler_config, make_solver
from support.published.schedulers import SCHEDULER_PNDM
from support.trajectories import SD, TOLERANCE, Recorded, RecordedFloat32, compare, ours, theirs, unit, worst

FEW = [1, 2, 4, 7, 8, 50]
MANY = [10, 20, 50]
KINDS = ["epsilon", "v_prediction", "sample"]


def converted(scheduler_class: Any, config: dict[str, Any], steps: int, solver: str) -> float:
    """`solver` on a config of any class, against Diffusers' class made from that config."""
    scheduler = scheduler_class.from_config(config)
    scheduler.set_timesteps(steps)
    setup = from_scheduler_config(config, steps, solver, noise=Recorded())
    return worst(ours(setup), theirs(scheduler, setup, unit, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("steps", FEW)
@pytest.mark.parametrize("prediction", KINDS)
def test_lcm(prediction: str, steps: int) -> None:
    config = {**SD, "prediction_type": prediction}
    assert compare(LCMScheduler, config, steps, unit, noise=Recorded()) < TOLERANCE
    assert converted(LCMScheduler, {**SCHEDULER_PNDM, "prediction_type": prediction}, steps, "lcm") < TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        {"original_inference_steps": 100},
        {"timestep_scaling": 0.01},  # boundary conditions that are far from (0, 1)
        {"clip_sample": True},
        {"clip_sample": True, "clip_sample_range": 0.3},
        {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"steps_offset": 3, "set_alpha_to_one": False, "timestep_spacing": "trailing"},  # read by no step of it
        {"num_train_timesteps": 500, "original_inference_steps": 30},
    ],
)
def test_fields_of_lcm(change: dict[str, Any]) -> None:
    assert compare(LCMScheduler, {**SD, **change}, 6, unit, noise=Recorded()) < TOLERANCE


def test_timesteps_of_lcm() -> None:
    """The published ones (arXiv 2310.04378 and its code)."""
    timesteps = {n: from_scheduler_config(SCHEDULER_PNDM, n, "lcm").grid.timestep.tolist() for n in (1, 2, 4, 8)}
    assert timesteps == {
        1: [999],
        2: [999, 499],
        4: [999, 759, 499, 259],
        8: [999, 879, 759, 639, 499, 379, 259, 139],
    }


@pytest.mark.parametrize("steps", FEW)
@pytest.mark.parametrize("prediction", KINDS)
def test_tcd(prediction: str, steps: int) -> None:
    config = {**SD, "prediction_type": prediction}
    assert compare(TCDScheduler, config, steps, unit, noise=Recorded()) < TOLERANCE
    assert converted(TCDScheduler, {**SCHEDULER_PNDM, "prediction_type": prediction}, steps, "tcd") < TOLERANCE


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_tcd_at_any_gamma(gamma: float) -> None:
    """Tables of 1000 / 20 entries put times where 0.7 t is whole, which float32 decides."""
    for original in (50, 20, 1000):
        config = {**SCHEDULER_PNDM, "original_inference_steps": original}
        scheduler = TCDScheduler.from_config(config)
        scheduler.set_timesteps(10)
        grid = from_scheduler_config(config, 10, "tcd").grid
        solver = make_solver("tcd", grid, gamma=gamma, noise=Recorded())
        setup = SolverSetup(solver, "epsilon", grid.schedule, grid)
        generator = torch.Generator().manual_seed(5)
        assert worst(ours(setup), theirs(scheduler, setup, unit, eta=gamma, generator=generator)) < TOLERANCE


@pytest.mark.parametrize("steps", MANY)
@pytest.mark.parametrize("prediction", KINDS)
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_ddpm(spacing: str, prediction: str, steps: int) -> None:
    config = {**SD, "timestep_spacing": spacing, "steps_offset": 1, "prediction_type": prediction, "clip_sample": False}
    for variance in ("fixed_small", "fixed_small_log"):
        chosen = {**config, "variance_type": variance}
        assert compare(DDPMScheduler, chosen, steps, unit, noise=Recorded()) < TOLERANCE
    assert compare(DDPMParallelScheduler, config, steps, unit, noise=Recorded()) < TOLERANCE
    converted_from = {**SCHEDULER_PNDM, "timestep_spacing": spacing, "prediction_type": prediction}
    assert converted(DDPMScheduler, converted_from, steps, "ddpm") < TOLERANCE


@pytest.mark.parametrize("steps", [*MANY, 7])
def test_ddpm_of_fixed_large_variance(steps: int) -> None:
    """With timesteps that end at 0, where Diffusers draws no noise in the last step either."""
    config = {**SD, "variance_type": "fixed_large", "clip_sample": False}
    assert compare(DDPMScheduler, config, steps, unit, noise=Recorded()) < TOLERANCE


def test_ddpm_draws_no_noise_onto_clean_data() -> None:
    """Diffusers' fixed_large does, where the last timestep is above 0: sigma z, 0.3 of a picture in 10 steps."""
    config = {**SD, "variance_type": "fixed_large", "clip_sample": False, "timestep_spacing": "trailing"}
    scheduler = DDPMScheduler(**config)
    scheduler.set_timesteps(10)
    setup = from_scheduler_config({"_class_name": "DDPMScheduler", **config}, 10, noise=Recorded())
    mine = ours(setup)
    other = theirs(scheduler, setup, unit, generator=torch.Generator().manual_seed(5))
    assert worst(mine[:-1], other[:-1]) < TOLERANCE
    sigma = setup.grid.points[-2].sigma
    added = sigma * Recorded()(10, (0.0, 0.0), mine[-1])
    torch.testing.assert_close(other[-1] - mine[-1], added, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"clip_sample": True},
        {"clip_sample": True, "clip_sample_range": 0.4},
        {},  # clips by default
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "clip_sample": False},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    ],
)
def test_fields_of_ddpm(change: dict[str, Any]) -> None:
    assert compare(DDPMScheduler, {**SD, **change}, 20, unit, noise=Recorded()) < TOLERANCE


@pytest.mark.parametrize("steps", MANY)
def test_parallel_ddim(steps: int) -> None:
    config = {**SD, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    assert compare(DDIMParallelScheduler, config, steps, unit) < TOLERANCE


@pytest.mark.parametrize("steps", [1, 2, 4, 20, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_heun(shift: float, steps: int) -> None:
    assert compare(FlowMatchHeunDiscreteScheduler, {"shift": shift}, steps, unit) < TOLERANCE


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
def test_flow_lcm(steps: int) -> None:
    given: dict[str, Any] = {"sigmas": [1 - i / steps for i in range(steps)], "noise": RecordedFloat32()}
    for change in ({}, {"use_karras_sigmas": True}, {"use_beta_sigmas": True}, {"scale_factors": []}):
        config = {"shift": 3.0, **change}
        assert compare(FlowMatchLCMScheduler, config, steps, unit, **given) < TOLERANCE
    if steps > 1:
        stretched = {"shift": 1.0, "shift_terminal": 0.1}
        assert compare(FlowMatchLCMScheduler, stretched, steps, unit, **given) < TOLERANCE
    dynamic = {"use_dynamic_shifting": True, "time_shift_type": "exponential"}
    mu = 0.5 + 0.65 * (1024 - 256) / (4096 - 256)
    assert compare(FlowMatchLCMScheduler, dynamic, steps, unit, mu=mu, image_tokens=1024, **given) < TOLERANCE


def test_flow_lcm_of_growing_size_is_refused() -> None:
    config = {"_class_name": "FlowMatchLCMScheduler", "scale_factors": [0.5, 1.0], "upscale_mode": "nearest"}
    with pytest.raises(ValueError, match=r"scale_factors=\[0.5, 1.0\]"):
        from_scheduler_config(config, 3)
    assert from_scheduler_config({**config, "scale_factors": None}, 3).grid.n_steps == 3
