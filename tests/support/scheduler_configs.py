"""Scheduler configs with the fields of published ones."""

from typing import Any

from support.published.schedulers import SCHEDULER_PNDM
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
DPM = {
    **SCHEDULER_PNDM,
    "_class_name": "DPMSolverMultistepScheduler",
    "solver_order": 2,
    "algorithm_type": "dpmsolver++",
}
DREAMBOOTH = {
    **SCHEDULER_PNDM,
    "_class_name": "DDPMScheduler",
    "variance_type": "fixed_small",
    "prediction_type": "epsilon",
}
