"""The scheduler classes of the Hub: their fields with defaults, what is refused, and the solver they stand for."""

import math
from collections.abc import Callable
from typing import Any, Final

from .config_classes_sigma import SIGMA_CLASSES
from .config_fields import Fields, SchedulerClass
from .config_grids import ddim_grid, dpm_grid, euler_grid, flow_grid
from .dpmpp import DIFFERENCES
from .spacing import RAMPS, SPACINGS
from .unipc import SCALES

_TABLE: Final = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
    "timestep_spacing": "linspace",
}
_RAMPS: Final = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_FLOW: Final = {
    "use_flow_sigmas": False,
    "flow_shift": 1.0,
    "use_dynamic_shifting": False,
    "time_shift_type": "exponential",
}
_GRIDS: Final = (*SPACINGS, *RAMPS)


def _always(name: str) -> Callable[[Fields], str]:
    return lambda fields: name


def _no_options(fields: Fields) -> dict[str, Any]:
    return {}


EULER: Final = SchedulerClass(
    name="EulerDiscreteScheduler",
    defaults={
        **_TABLE,
        **_RAMPS,
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
        "sigma_min": None,
        "sigma_max": None,
    },
    fixed={"interpolation_type": ("linear",), "timestep_type": ("discrete",)},
    grids=_GRIDS,
    grid=euler_grid,
    solver=_always("euler"),
    options=_no_options,
)

EULER_ANCESTRAL: Final = SchedulerClass(
    name="EulerAncestralDiscreteScheduler",
    defaults={**_TABLE, "rescale_betas_zero_snr": False},
    fixed={},
    grids=_GRIDS,
    grid=lambda fields, steps: euler_grid(fields.replace(final_sigmas_type="zero"), steps),
    solver=_always("euler-ancestral"),
    options=_no_options,
)

HEUN: Final = SchedulerClass(
    name="HeunDiscreteScheduler",
    defaults={**_TABLE, **_RAMPS, "beta_start": 0.00085, "beta_end": 0.012},
    fixed={"clip_sample": (False,)},
    grids=_GRIDS,
    grid=lambda fields, steps: euler_grid(fields.replace(final_sigmas_type="zero"), steps),
    solver=_always("heun"),
    options=_no_options,
)

DDIM: Final = SchedulerClass(
    name="DDIMScheduler",
    defaults={
        **_TABLE,
        "timestep_spacing": "leading",
        "rescale_betas_zero_snr": False,
        "set_alpha_to_one": True,
    },
    fixed={"clip_sample": (False,), "thresholding": (False,)},
    grids=_GRIDS,
    grid=ddim_grid,
    solver=_always("ddim"),
    options=_no_options,
    required=("clip_sample",),
)

PNDM: Final = SchedulerClass(
    name="PNDMScheduler",
    defaults={**_TABLE, "timestep_spacing": "leading", "set_alpha_to_one": False},
    fixed={"skip_prk_steps": (True,)},
    grids=_GRIDS,
    grid=ddim_grid,
    solver=_always("pndm"),
    options=lambda fields: {"prediction": fields["prediction_type"]} if fields["prediction_type"] != "sample" else {},
    required=("skip_prk_steps",),
)

# Values of `solver_type` and `algorithm_type` that a config saved by a sibling class carries mean the default here.
_SIBLING_DIFFERENCES: Final = dict.fromkeys(("bh1", "bh2", "logrho"), "midpoint")
_ALGORITHMS: Final = {"dpmsolver++": "dpmpp2m", "dpmsolver": "dpm2m", "sde-dpmsolver++": "dpmpp2m-sde"}
_SINGLESTEP_ALGORITHMS: Final = {"dpmsolver++": "dpmpp2s", "sde-dpmsolver++": "dpmpp2s-sde"}


def _dpm_options(fields: Fields) -> dict[str, Any]:
    return {
        "solver_order": fields["solver_order"],
        "second_order": fields.choice("solver_type", DIFFERENCES, _SIBLING_DIFFERENCES),
        "lower_order_final": fields["lower_order_final"],
        "euler_at_final": fields["euler_at_final"],
    }


DPM_MULTISTEP: Final = SchedulerClass(
    name="DPMSolverMultistepScheduler",
    defaults={
        **_TABLE,
        **_RAMPS,
        **_FLOW,
        "use_lu_lambdas": False,
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
        "lambda_min_clipped": -math.inf,
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "solver_type": "midpoint",
        "lower_order_final": True,
        "euler_at_final": False,
    },
    fixed={
        "thresholding": (False,),
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    },
    grids=_GRIDS,
    grid=lambda fields, steps: dpm_grid(fields, steps, rounded=fields["beta_schedule"] != "squaredcos_cap_v2"),
    solver=lambda fields: _ALGORITHMS[fields.choice("algorithm_type", _ALGORITHMS, {"deis": "dpmsolver++"})],
    options=_dpm_options,
)


def _singlestep_options(fields: Fields) -> dict[str, Any]:
    return {
        "solver_order": fields["solver_order"],
        "second_order": fields.choice("solver_type", DIFFERENCES, _SIBLING_DIFFERENCES),
        "lower_order_final": fields["lower_order_final"],
    }


DPM_SINGLESTEP: Final = SchedulerClass(
    name="DPMSolverSinglestepScheduler",
    defaults={
        **{key: value for key, value in _TABLE.items() if key not in ("steps_offset", "timestep_spacing")},
        **_RAMPS,
        **_FLOW,
        "final_sigmas_type": "zero",
        "lambda_min_clipped": -math.inf,
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "solver_type": "midpoint",
        "lower_order_final": False,
    },
    fixed={
        "thresholding": (False,),
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    },
    grids=_GRIDS,
    grid=lambda fields, steps: dpm_grid(
        Fields(fields.cls, {"timestep_spacing": "linspace", "steps_offset": 0, **fields.values}), steps
    ),
    solver=lambda fields: _SINGLESTEP_ALGORITHMS[
        fields.choice("algorithm_type", _SINGLESTEP_ALGORITHMS, {"deis": "dpmsolver++"})
    ],
    options=_singlestep_options,
)

UNIPC: Final = SchedulerClass(
    name="UniPCMultistepScheduler",
    defaults={
        **_TABLE,
        **_RAMPS,
        **_FLOW,
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
        "sigma_min": None,
        "sigma_max": None,
        "shift_terminal": None,
        "solver_order": 2,
        "solver_type": "bh2",
        "lower_order_final": True,
        "disable_corrector": (),
    },
    fixed={"thresholding": (False,), "predict_x0": (True,), "solver_p": (None,)},
    grids=_GRIDS,
    grid=lambda fields, steps: dpm_grid(fields, steps, flow_from_one=True, flow_stays=True),
    solver=_always("unipc"),
    options=lambda fields: {
        "solver_order": fields["solver_order"],
        "scale": fields.choice("solver_type", SCALES, dict.fromkeys(("midpoint", "heun", "logrho"), "bh2")),
        "lower_order_final": fields["lower_order_final"],
        "disable_corrector": tuple(fields["disable_corrector"]),
    },
)

DEIS_MULTISTEP: Final = SchedulerClass(
    name="DEISMultistepScheduler",
    defaults={**_TABLE, **_RAMPS, **_FLOW, "solver_order": 2, "lower_order_final": True},
    fixed={
        "thresholding": (False,),
        "algorithm_type": ("deis", "dpmsolver", "dpmsolver++"),
        "solver_type": ("logrho", "midpoint", "heun", "bh1", "bh2"),
    },
    grids=_GRIDS,
    grid=lambda fields, steps: dpm_grid(fields.replace(final_sigmas_type="sigma_min"), steps, flow_stays=True),
    solver=_always("deis"),
    options=lambda fields: {
        "solver_order": fields["solver_order"],
        "lower_order_final": fields["lower_order_final"],
    },
)

FLOW_MATCH_EULER: Final = SchedulerClass(
    name="FlowMatchEulerDiscreteScheduler",
    defaults={
        "num_train_timesteps": 1000,
        "prediction_type": "flow_prediction",
        "shift": 1.0,
        "use_dynamic_shifting": False,
        "time_shift_type": "exponential",
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "shift_terminal": None,
        **_RAMPS,
        "stochastic_sampling": False,
    },
    fixed={"invert_sigmas": (False,)},
    grids=("linspace", *RAMPS),
    grid=flow_grid,
    # Stochastic sampling draws all noise anew at every step.
    solver=lambda fields: "euler-ancestral" if fields["stochastic_sampling"] else "euler",
    options=lambda fields: {"eta": math.inf} if fields["stochastic_sampling"] else {},
)

CLASSES: Final = {
    cls.name: cls
    for cls in (
        DDIM,
        DEIS_MULTISTEP,
        DPM_MULTISTEP,
        DPM_SINGLESTEP,
        EULER,
        EULER_ANCESTRAL,
        FLOW_MATCH_EULER,
        HEUN,
        PNDM,
        UNIPC,
        *SIGMA_CLASSES,
    )
}
