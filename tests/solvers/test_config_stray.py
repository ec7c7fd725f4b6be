"""Scheduler configs of the Hub, with stray fields, against Diffusers' classes made from the same dicts."""

import math
from typing import Any

import diffusers
import pytest
import torch

from sadaflow.solvers import check_scheduler_config, draws_noise, from_scheduler_config, read_schedule
from sadaflow.solvers.scheduler_config.catalogue import CLASSES
from support.published.schedulers import SCHEDULER_LCM, SCHEDULER_PNDM, SCHEDULER_XL
from support.scheduler_configs import COGVIDEOX, DPM, DREAMBOOTH, EMA
from support.trajectories import SD, TOLERANCE, Recorded, ours, scaled, theirs, unit, worst

BASES = [
    (SCHEDULER_XL, None, None),
    (DPM, None, None),
    (SCHEDULER_XL, "DPMSolverMultistepScheduler", "dpmpp2m"),
    (SCHEDULER_PNDM, "EulerDiscreteScheduler", "euler"),
    (SCHEDULER_PNDM, "LCMScheduler", "lcm"),
    (SCHEDULER_PNDM, "TCDScheduler", "tcd"),
    (DREAMBOOTH, None, None),
    (SCHEDULER_LCM, None, None),
    (COGVIDEOX, None, None),
]


def against_diffusers(config: dict[str, Any], steps: int, cls: str | None = None, solver: str | None = None) -> float:
    """The worst difference to Diffusers' class made of the same dict, but for whole numbers that are floats."""
    whole = {key: int(value) for key, value in config.items() if key in ("num_train_timesteps", "steps_offset")}
    scheduler = getattr(diffusers, cls or config["_class_name"]).from_config({**config, **whole})
    scheduler.set_timesteps(steps)
    setup = from_scheduler_config(config, steps, solver, noise=Recorded())
    drawn = draws_noise(solver) if solver else type(scheduler).__name__ in ("DDPMScheduler", "LCMScheduler")
    generator = {"generator": torch.Generator().manual_seed(5)} if drawn else {}
    frame = scaled if "Euler" in type(scheduler).__name__ else unit
    return worst(ours(setup), theirs(scheduler, setup, frame, **generator))


@pytest.mark.parametrize(
    "stray",
    [
        {},
        EMA,
        {"stride": 1, "max_value": 0.9999},
        {"tensor_format": "pt", "timestep_values": None},
        {"predict_epsilon": True},
        {"clip_sample": True, "clip_sample_range": 0.7, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 2.0},
        {"interpolation_type": "linear", "skip_prk_steps": True, "set_alpha_to_one": True},
        {"original_inference_steps": 50, "timestep_scaling": 10.0},
        {"variance_type": None, "solver_p": None, "use_flow_sigmas": False, "lower_order_final": True},
        {"shift": 3.0, "base_shift": 0.5, "use_dynamic_shifting": False, "time_shift_type": "exponential"},
        {"option_of_a_later_version": None, "another": False},
        {"num_train_timesteps": 1000.0, "steps_offset": 1.0},
        {"lambda_min_clipped": -math.inf, "thresholding": None},
    ],
)
@pytest.mark.parametrize(("base", "cls", "solver"), BASES)
def test_what_is_accepted_is_what_diffusers_makes_of_it(
    base: dict[str, Any], cls: str | None, solver: str | None, stray: dict[str, Any]
) -> None:
    assert against_diffusers({**base, **stray}, 10, cls, solver) < TOLERANCE


@pytest.mark.parametrize(("base", "cls", "solver"), BASES)
def test_thresholding_is_refused_where_the_class_reads_it(
    base: dict[str, Any], cls: str | None, solver: str | None
) -> None:
    config = {**base, "thresholding": True}
    if "thresholding" in CLASSES[cls or base["_class_name"]].fixed:
        with pytest.raises(ValueError, match="thresholding=True"):
            from_scheduler_config(config, 10, solver)
    else:
        assert against_diffusers(config, 10, cls, solver) < TOLERANCE


@pytest.mark.parametrize("solver", ["euler", "dpmpp2m", "lcm", "tcd", "ddpm"])
@pytest.mark.parametrize("saved", ["DDIMScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "LCMScheduler"])
def test_defaults_of_another_class_do_not_count(saved: str, solver: str) -> None:
    """Diffusers notes in `_use_default_values` which fields of a config were only defaults of the class that had it."""
    config = {**getattr(diffusers, saved)(**SD).config, "_class_name": saved}
    config |= {"clip_sample": False}  # Diffusers' DDPM clips where this is left out
    config["_use_default_values"] = [key for key in config["_use_default_values"] if key != "clip_sample"]
    assert "timestep_spacing" in config["_use_default_values"]
    classes = {"euler": "EulerDiscreteScheduler", "dpmpp2m": "DPMSolverMultistepScheduler"}
    cls = classes.get(solver, f"{solver.upper()}Scheduler")
    assert against_diffusers(config, 10, cls, solver) < TOLERANCE


def test_predict_epsilon_of_early_versions() -> None:
    """Diffusers up to 0.12 read it; today's ignores it with a warning, and takes x0 for noise."""
    config = {**DREAMBOOTH, "predict_epsilon": False}
    del config["prediction_type"]
    assert from_scheduler_config(config, 10).prediction == "sample" == read_schedule(config)[1]
    assert from_scheduler_config({**config, "predict_epsilon": None}, 10).prediction == "epsilon"
    assert from_scheduler_config({**config, "prediction_type": "sample"}, 10).prediction == "sample"
    late = {**config, "predict_epsilon": True, "prediction_type": "v_prediction"}
    assert from_scheduler_config(late, 10).prediction == "v_prediction"
    with pytest.raises(ValueError, match="predict_epsilon=false and prediction_type='epsilon'"):
        from_scheduler_config({**config, "prediction_type": "epsilon"}, 10)
    with pytest.raises(ValueError, match="predict_epsilon='no'"):
        from_scheduler_config({**config, "predict_epsilon": "no"}, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"new_idea": 1}, "unknown fields in the scheduler config: new_idea=1; remove"),
        ({"new_idea": 0.0}, "new_idea=0.0"),
        ({"new_idea": ""}, "new_idea=''"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas=True .* no noise table"),
        ({"timestep_type": "continuous"}, "timestep_type='continuous' .* logarithm of sigma"),
        ({"snr_shift_scale": 3.0}, "snr_shift_scale=3.0 .* shifted"),
        ({"num_train_timesteps": 999.5}, "num_train_timesteps=999.5"),
        ({"num_train_timesteps": True}, "num_train_timesteps=True"),
        ({"num_train_timesteps": "1000"}, "num_train_timesteps='1000'"),
        ({"steps_offset": 0.5}, "steps_offset=0.5"),
        ({"steps_offset": math.inf}, "steps_offset=inf"),
        ({"beta_end": 10**400}, "beta_end=1000"),
    ],
)
def test_what_would_change_the_picture_is_refused(change: dict[str, Any], message: str) -> None:
    for base in (SCHEDULER_XL, DREAMBOOTH):
        for call in (check_scheduler_config, lambda config: from_scheduler_config(config, 10)):
            with pytest.raises(ValueError, match=message):
                call({**base, **change})


def test_published_configs_load_without_a_note() -> None:
    for config in (SCHEDULER_XL, SCHEDULER_PNDM, DPM, DREAMBOOTH, SCHEDULER_LCM, COGVIDEOX):
        assert check_scheduler_config(config) == []


def test_ignored_fields_are_named_in_one_line() -> None:
    config = {**SCHEDULER_PNDM, **EMA, "use_karras_sigmas": True, "later": None}
    (note,) = check_scheduler_config(config)
    assert "\n" not in note
    for part in ("decay=0.9999", "weight average", "use_karras_sigmas=True", "later=None (switched off)"):
        assert part in note
    assert "clip_sample" not in note and "steps_offset" not in note
