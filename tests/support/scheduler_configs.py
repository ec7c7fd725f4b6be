"""Scheduler configs with the fields of published ones."""

from typing import Any

from support.trajectories import SD

# Left in schedulers' configs by the average of weights that was saved beside them.
EMA = {
    "decay": 0.9999,
    "inv_gamma": 1.0,
    "power": 0.75,
    "optimization_step": 150000,
    "use_ema_warmup": False,
    "update_after_step": 0,
    "min_decay": 0.0,
}
SD15: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    **SD,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
# As stable-diffusion-xl-base-1.0 is published.
SDXL: dict[str, Any] = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    **SD,
    "clip_sample": False,
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
# As LCM_Dreamshaper_v7 is published: it clips latents.
DREAMSHAPER: dict[str, Any] = {
    "_class_name": "LCMScheduler",
    "_diffusers_version": "0.22.0.dev0",
    **SD,
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.995,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "sample_max_value": 1.0,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "thresholding": False,
    "timestep_spacing": "leading",
    "trained_betas": None,
}
# As CogVideoX-2b is published.
COGVIDEOX: dict[str, Any] = {
    "_class_name": "CogVideoXDDIMScheduler",
    **SD,
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "sample_max_value": 1.0,
    "set_alpha_to_one": True,
    "snr_shift_scale": 3.0,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
    "trained_betas": None,
}
DPM = {**SD15, "_class_name": "DPMSolverMultistepScheduler", "solver_order": 2, "algorithm_type": "dpmsolver++"}
DREAMBOOTH = {**SD15, "_class_name": "DDPMScheduler", "variance_type": "fixed_small", "prediction_type": "epsilon"}
