"""Scheduler classes that have no solver here, and the numbers of steps for which a class has timesteps."""

import re
import warnings
from typing import Any

import diffusers
import pytest
import torch

from sadaflow.solvers import RectifiedFlow, VPDiscrete, check_scheduler_config, from_scheduler_config, read_schedule
from sadaflow.solvers.scheduler_config.catalogue import BORROWED, CLASSES
from sadaflow.solvers.scheduler_config.classes_borrowed import NO_SCHEDULE
from support.published.schedulers import SCHEDULER_LCM, SCHEDULER_PNDM, SCHEDULER_XL
from support.scheduler_configs import COGVIDEOX
from support.trajectories import SD, TOLERANCE, ours, scaled, theirs, worst


def test_every_class_is_one_of_diffusers() -> None:
    names = {*CLASSES, *BORROWED, *NO_SCHEDULE}
    assert len(names) == len(CLASSES) + len(BORROWED) + len(NO_SCHEDULE)
    assert [name for name in names if not hasattr(diffusers, name)] == []


@pytest.mark.parametrize("name", BORROWED)
def test_a_class_without_sampler_serves_a_solver_by_name(name: str) -> None:
    config = {"_class_name": name, **({} if BORROWED[name].flow else SD)}
    with pytest.raises(ValueError, match=f"sampler of {name} is not supported: .*; name a solver .* scheduler="):
        from_scheduler_config(config, 10)
    (note,) = check_scheduler_config(config)
    assert name in note and "name a solver" in note
    schedule, prediction = read_schedule(config)
    flow = BORROWED[name].flow
    assert isinstance(schedule, RectifiedFlow if flow else VPDiscrete)
    assert prediction == ("flow_prediction" if flow else "epsilon")
    assert from_scheduler_config(config, 10, "dpmpp2m").grid.n_steps == 10


@pytest.mark.parametrize("name", ["DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler", "RePaintScheduler"])
def test_its_noise_table_is_the_published_one(name: str) -> None:
    config = {"_class_name": name, **SD, "clip_sample": True, "thresholding": False, "prediction_type": "v_prediction"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs_table = getattr(diffusers, name).from_config(config).alphas_cumprod.double()
    schedule = read_schedule(config)[0]
    assert isinstance(schedule, VPDiscrete)
    torch.testing.assert_close(schedule.alphas_cumprod, theirs_table, rtol=1e-6, atol=0)
    scheduler = diffusers.EulerDiscreteScheduler.from_config(config)
    scheduler.set_timesteps(10)
    setup = from_scheduler_config(config, 10, "euler")
    assert worst(ours(setup), theirs(scheduler, setup, scaled)) < TOLERANCE


@pytest.mark.parametrize("solver", ["euler", "dpmpp2m", "heun", "lcm"])
def test_the_shifted_table_of_cogvideox_serves_every_solver(solver: str) -> None:
    """Its table divides the signal-to-noise ratio, which the class that a solver is published in does not know."""
    reference = diffusers.CogVideoXDDIMScheduler.from_config({**COGVIDEOX, "rescale_betas_zero_snr": False})
    config = {**COGVIDEOX, "rescale_betas_zero_snr": False}
    del config["snr_shift_scale"]  # its default, 3
    schedule = from_scheduler_config(config, 10, solver).schedule
    assert isinstance(schedule, VPDiscrete)
    torch.testing.assert_close(schedule.alphas_cumprod, reference.alphas_cumprod.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NO_SCHEDULE)
def test_a_class_that_cannot_be_read_is_refused_with_a_remedy(name: str) -> None:
    for solver in (None, "euler"):
        with pytest.raises(ValueError, match=f"{name} cannot be read: .* scheduler="):
            from_scheduler_config({"_class_name": name}, 10, solver)
    with pytest.raises(ValueError, match=name):
        check_scheduler_config({"_class_name": name})


@pytest.mark.parametrize("name", ["OwnScheduler", None, 3, ["EulerDiscreteScheduler"]])
def test_an_unknown_class_is_refused_with_the_known_ones(name: Any) -> None:
    with pytest.raises(ValueError, match="names class .*known are .*EulerDiscreteScheduler.* scheduler="):
        check_scheduler_config({"_class_name": name, **SD})


def test_a_sampler_that_refuses_its_config_leaves_others_to_name() -> None:
    config = {**SCHEDULER_XL, "interpolation_type": "log_linear"}
    (note,) = check_scheduler_config(config)
    assert "interpolation_type='log_linear'" in note and "solver='ddim'" in note
    assert from_scheduler_config(config, 10, "ddim").grid.n_steps == 10
    schedule, prediction = read_schedule(config)
    assert isinstance(schedule, VPDiscrete) and prediction == "epsilon"
    (note,) = check_scheduler_config({**SCHEDULER_LCM, "thresholding": True})
    assert "thresholding=True" in note and "solver='euler'" in note
    flow = {"_class_name": "FlowMatchLCMScheduler", "scale_factors": [0.5]}  # the network's sizes change: none serves
    with pytest.raises(ValueError, match="scale_factors"):
        check_scheduler_config(flow)


def test_reading_the_schedule_alone() -> None:
    for config in (SCHEDULER_PNDM, SCHEDULER_XL, SCHEDULER_LCM, COGVIDEOX):
        setup = from_scheduler_config(config, 10)
        schedule, prediction = read_schedule(config)
        assert prediction == setup.prediction and isinstance(schedule, VPDiscrete)
        assert isinstance(setup.schedule, VPDiscrete)
        assert torch.equal(schedule.alphas_cumprod, setup.schedule.alphas_cumprod)
    dynamic = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True, "shift_terminal": 0.02}
    for kind in ("exponential", "linear"):
        assert read_schedule({**dynamic, "time_shift_type": kind})[1] == "flow_prediction"
    assert read_schedule({**SCHEDULER_PNDM, "num_train_timesteps": 20})[0].t_max == 19
    with pytest.raises(ValueError, match="beta_schedule"):
        check_scheduler_config({**SCHEDULER_PNDM, "beta_schedule": "cubic"})
    with pytest.raises(ValueError, match="prediction_type='score'"):
        check_scheduler_config({**SCHEDULER_PNDM, "prediction_type": "score"})


STEPPERS = ["DDIM", "PNDM", "DDPM", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "DPMSolverMultistep"]
STEPPERS += ["UniPCMultistep", "DEISMultistep", "LCM", "TCD"]
SIZE = 40


def published_timesteps(scheduler: Any, steps: int) -> list[float] | None:
    """Diffusers' timesteps, None where they repeat, leave the table of 0 to SIZE - 1, or are refused."""
    try:
        scheduler.set_timesteps(steps)
    except (ValueError, ZeroDivisionError, RuntimeError):
        return None
    timesteps = list(dict.fromkeys(scheduler.timesteps.tolist()))
    inside = all(0 <= t <= SIZE - 1 for t in timesteps)
    return timesteps if inside and len(timesteps) == steps else None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("name", STEPPERS)
def test_numbers_of_steps_whose_timesteps_leave_the_table(name: str, spacing: str, offset: int) -> None:
    """Of all numbers of steps, exactly those are refused that Diffusers leaves the table with, or repeats one with."""
    given: dict[str, Any] = {"num_train_timesteps": SIZE, "timestep_spacing": spacing, "steps_offset": offset}
    given |= {"skip_prk_steps": True} if name == "PNDM" else {}
    given |= {"clip_sample": False} if name in ("DDIM", "DDPM") else {}
    given |= {"original_inference_steps": 20} if name in ("LCM", "TCD") else {}
    scheduler = getattr(diffusers, f"{name}Scheduler").from_config(given)
    works = {n for n in range(1, SIZE + 3) if published_timesteps(scheduler, n) is not None}
    assert works  # with none the rest would say nothing
    config = {"_class_name": f"{name}Scheduler", **given}
    for steps in range(2, SIZE + 3):
        if steps in works:
            assert from_scheduler_config(config, steps).grid.timestep[0] <= SIZE - 1
            continue
        with pytest.raises(ValueError, match=rf"^{steps} steps are too many for {name}Scheduler") as caught:
            from_scheduler_config(config, steps)
        (fewer,) = re.findall(r"the next smaller number that works is (\d+)$", str(caught.value))
        assert int(fewer) == max(n for n in works if n < steps)


@pytest.mark.parametrize("solver", [None, "ddim", "plms", "ddpm"])
def test_a_thousand_steps_of_the_published_config(solver: str | None) -> None:
    """Leading spacing with an offset of 1 starts at 1000 of a table of 0 to 999."""
    with pytest.raises(ValueError, match=r"1000 steps .*from 1000 to 1, but .* 0 to 999.* works is 999$"):
        from_scheduler_config(SCHEDULER_PNDM, 1000, solver)
    assert from_scheduler_config(SCHEDULER_PNDM, 999, solver).grid.timestep[0] == 999


def test_the_search_for_a_number_of_steps_ends() -> None:
    """A long table with an offset that leaves room for one step only."""
    table = {"num_train_timesteps": 100_000, "beta_start": 1e-6, "beta_end": 1e-4}
    config = {**SCHEDULER_PNDM, **table, "steps_offset": 99_990}
    with pytest.raises(ValueError, match="50000 steps are too many for PNDMScheduler .* only far fewer work$"):
        from_scheduler_config(config, 50_000)


def test_points_of_the_users_own_outside_the_schedule() -> None:
    with pytest.raises(ValueError, match="from 1200 to 500, but the noise table has 0 to 999"):
        from_scheduler_config(SCHEDULER_XL, 2, timesteps=[1200, 500])
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
    with pytest.raises(ValueError, match="flow time goes from 1 to 0"):
        from_scheduler_config(flow, 2, timesteps=[1200, 500])
    with pytest.raises(ValueError, match="flow time goes from 1 to 0"):
        from_scheduler_config(flow, 2, sigmas=[1.5, 0.5, 0.0])


def test_more_steps_than_a_consistency_model_was_distilled_at() -> None:
    for solver in ("lcm", "tcd"):
        with pytest.raises(ValueError, match="60 steps .*original_inference_steps=50 allows 1 to 50 .* works is 50$"):
            from_scheduler_config(SCHEDULER_PNDM, 60, solver)
        with pytest.raises(ValueError, match="original_inference_steps must lie between 1 and 1000, got 2000"):
            from_scheduler_config({**SCHEDULER_PNDM, "original_inference_steps": 2000}, 4, solver)
