"""Scheduler classes of the Hub that draw fresh noise, and relatives of DDIM."""

from dataclasses import replace
from typing import Any, Final

from .classes import DDIM
from .common import CLIPPING, GRIDS, TABLE, UNCLIPPED, always, clip, no_options
from .fields import Fields, SchedulerClass
from .grids import consistency_grid, ddim_grid

_UNREAD_END: Final = {"set_alpha_to_one": "its steps always end at table entries or on clean data"}
_UNREAD_CLIPPING: Final = {
    "clip_sample": "its step does not clip",
    "thresholding": "its step does not clip",
    "timestep_scaling": "it has no boundary conditions",
}
# "fixed_small_log" and None mean the same variance as "fixed_small" in the published step.
_VARIANCES: Final = {"fixed_small": "fixed_small", "fixed_small_log": "fixed_small", None: "fixed_small"}


DDPM: Final = SchedulerClass(
    name="DDPMScheduler",
    defaults={
        **TABLE,
        "timestep_spacing": "leading",
        "rescale_betas_zero_snr": False,
        **CLIPPING,
    },
    inherited=UNCLIPPED,
    fixed={"thresholding": (False,), "variance_type": (*_VARIANCES, "fixed_large")},
    grids=GRIDS,
    grid=lambda fields, steps: ddim_grid(fields.replace(set_alpha_to_one=True), steps),
    solver=always("ddpm"),
    options=lambda fields: {
        "variance": _VARIANCES.get(fields["variance_type"], fields["variance_type"]),
        "clip": clip(fields),
    },
    unused={"set_alpha_to_one": "its last step ends on clean data"},
)

# The parallel classes take the same steps in another order of computation.
DDPM_PARALLEL: Final = replace(DDPM, name="DDPMParallelScheduler")
DDIM_PARALLEL: Final = replace(DDIM, name="DDIMParallelScheduler")

COGVIDEOX_DDIM: Final = SchedulerClass(
    name="CogVideoXDDIMScheduler",
    defaults={
        **{name: value for name, value in DDIM.defaults.items() if name not in CLIPPING},
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
    return {"timestep_scaling": float(fields["timestep_scaling"]), "clip": clip(fields)}


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


STOCHASTIC_CLASSES: Final = (
    COGVIDEOX_DDIM,
    DDIM_PARALLEL,
    DDPM,
    DDPM_PARALLEL,
    LCM,
    TCD,
)
