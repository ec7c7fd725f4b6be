"""scheduler_config.json of published checkpoints."""

from typing import Any

Json = dict[str, Any]

# Schedulers.
BETAS: Json = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "trained_betas": None,
}
SCHEDULER_PNDM: Json = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    **BETAS,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
SCHEDULER_XL: Json = {
    **SCHEDULER_PNDM,
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}
TURBO: Json = {
    key: value
    for key, value in {
        **SCHEDULER_XL,
        "_class_name": "EulerAncestralDiscreteScheduler",
        "timestep_spacing": "trailing",
    }.items()
    if key != "use_karras_sigmas"
}
SCHEDULER_FLUX: Json = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "_diffusers_version": "0.30.0.dev0",
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "max_image_seq_len": 4096,
    "max_shift": 1.15,
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
}


# LCM_Dreamshaper_v7, which clips latents.
SCHEDULER_LCM: Json = {
    "_class_name": "LCMScheduler",
    "_diffusers_version": "0.22.0.dev0",
    **BETAS,
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
}


def ddim(prediction: str, version: str) -> Json:
    return {
        **SCHEDULER_PNDM,
        "_class_name": "DDIMScheduler",
        "_diffusers_version": version,
        "prediction_type": prediction,
    }
