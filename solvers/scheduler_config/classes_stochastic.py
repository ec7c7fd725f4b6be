"""Scheduler classes of the Hub that draw fresh noise, relatives of DDIM, and the flow classes of Heun and LCM."""

from dataclasses import replace
from typing import Any, Final

from ..spacing import RAMPS
from .classes import DDIM, FLOW_MATCH_EULER
from .common import GRIDS, TABLE, always, no_options
from .fields import Fields, SchedulerClass
from .grids import consistency_grid, ddim_grid, flow_table_grid

_UNREAD_END: Final = {"set_alpha_to_one": "its steps end at entries of the table or on clean data, whatever this says"}
_UNREAD_CLIPPING: Final = {
    "clip_sample": "its step does not clip",
    "thresholding": "its step does not clip",
    "timestep_scaling": "it has no boundary conditions",
}
# Both logarithms and None mean the same variance as "fixed_small" in the published step.
_VARIANCES: Final = {"fixed_small": "fixed_small", "fixed_small_log": "fixed_small", None: "fixed_small"}


def _clip(fields: Fields) -> float | None:
    return float(fields["clip_sample_range"]) if fields["clip_sample"] else None


DDPM: Final = SchedulerClass(
    name="DDPMScheduler",
    defaults={
        **TABLE,
        "timestep_spacing": "leading",
        "rescale_betas_zero_snr": False,
        "clip_sample": True,
        "clip_sample_range": 1.0,
    },
    # Clipping by default is made for pictures; configs of latent models that leave it out do not mean it.
    inherited={"clip_sample": False},
    fixed={"thresholding": (False,), "variance_type": (*_VARIANCES, "fixed_large")},
    grids=GRIDS,
    grid=lambda fields, steps: ddim_grid(fields.replace(set_alpha_to_one=True), steps),
    solver=always("ddpm"),
    options=lambda fields: {
        "variance": _VARIANCES.get(fields["variance_type"], fields["variance_type"]),
        "clip": _clip(fields),
    },
    unused={"set_alpha_to_one": "its last step ends on clean data"},
)

# The same steps; what is parallel about them is the order in which they are computed.
DDPM_PARALLEL: Final = replace(DDPM, name="DDPMParallelScheduler")
DDIM_PARALLEL: Final = replace(DDIM, name="DDIMParallelScheduler")

COGVIDEOX_DDIM: Final = SchedulerClass(
    name="CogVideoXDDIMScheduler",
    defaults={
        **DDIM.defaults,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "snr_shift_scale": 3.0,
    },
    fixed={},
    grids=GRIDS,
    grid=ddim_grid,
    solver=always("ddim"),
    options=no_options,
    unused={"clip_sample": "its step does not clip", "thresholding": "its step does not clip"},
)

_DISTILLED: Final = {
    **TABLE,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "rescale_betas_zero_snr": False,
    "original_inference_steps": 50,
}


def _lcm_options(fields: Fields) -> dict[str, Any]:
    return {"timestep_scaling": float(fields["timestep_scaling"]), "clip": _clip(fields)}


LCM: Final = SchedulerClass(
    name="LCMScheduler",
    defaults={**_DISTILLED, "timestep_scaling": 10.0, "clip_sample": False, "clip_sample_range": 1.0},
    fixed={"thresholding": (False,)},
    grids=GRIDS,
    grid=lambda fields, steps: consistency_grid(fields, steps, clean=True),
    solver=always("lcm"),
    options=_lcm_options,
    unused=_UNREAD_END,
)

TCD: Final = SchedulerClass(
    name="TCDScheduler",
    defaults=_DISTILLED,
    fixed={},
    grids=GRIDS,
    grid=lambda fields, steps: consistency_grid(fields, steps, clean=False),
    solver=always("tcd"),
    options=no_options,
    unused={**_UNREAD_END, **_UNREAD_CLIPPING},
)

FLOW_MATCH_HEUN: Final = SchedulerClass(
    name="FlowMatchHeunDiscreteScheduler",
    defaults={"num_train_timesteps": 1000, "prediction_type": "flow_prediction", "shift": 1.0},
    fixed={},
    grids=("linspace", *RAMPS),
    grid=flow_table_grid,
    solver=always("heun"),
    options=no_options,
    flow=True,
)

FLOW_MATCH_LCM: Final = replace(
    FLOW_MATCH_EULER,
    name="FlowMatchLCMScheduler",
    defaults={key: value for key, value in FLOW_MATCH_EULER.defaults.items() if key != "stochastic_sampling"},
    # Scale factors make the picture larger from step to step, which needs states of several sizes.
    fixed={"invert_sigmas": (False,), "scale_factors": (None, [])},
    solver=always("lcm"),
    options=no_options,
    unused={"upscale_mode": "it belongs to scale_factors"},
)

STOCHASTIC_CLASSES: Final = (
    COGVIDEOX_DDIM,
    DDIM_PARALLEL,
    DDPM,
    DDPM_PARALLEL,
    FLOW_MATCH_HEUN,
    FLOW_MATCH_LCM,
    LCM,
    TCD,
)
