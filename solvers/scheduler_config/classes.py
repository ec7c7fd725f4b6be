"""The most common scheduler classes of the Hub: their fields with defaults, and the solver of each."""

import math
from typing import Any, Final

from ..dpmpp import DIFFERENCES
from ..unipc import SCALES
from .common import CLIPPING, FLOW, GRIDS, RAMP_FLAGS, TABLE, UNCLIPPED, always, clip, no_options
from .fields import Fields, SchedulerClass
from .grids import ddim_grid, dpm_grid, euler_grid

EULER: Final = SchedulerClass(
    name="EulerDiscreteScheduler",
    defaults={
        **TABLE,
        **RAMP_FLAGS,
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
        "sigma_min": None,
        "sigma_max": None,
    },
    fixed={"interpolation_type": ("linear",), "timestep_type": ("discrete",)},
    grids=GRIDS,
    grid=euler_grid,
    solver=always("euler"),
    options=no_options,
)

EULER_ANCESTRAL: Final = SchedulerClass(
    name="EulerAncestralDiscreteScheduler",
    defaults={**TABLE, "rescale_betas_zero_snr": False},
    fixed={},
    grids=GRIDS,
    grid=lambda fields, steps: euler_grid(fields.replace(final_sigmas_type="zero"), steps),
    solver=always("euler-ancestral"),
    options=no_options,
)

HEUN: Final = SchedulerClass(
    name="HeunDiscreteScheduler",
    defaults={**TABLE, **RAMP_FLAGS, "beta_start": 0.00085, "beta_end": 0.012},
    fixed={"clip_sample": (False,)},
    grids=GRIDS,
    grid=lambda fields, steps: euler_grid(fields.replace(final_sigmas_type="zero"), steps),
    solver=always("heun"),
    options=no_options,
)

DDIM: Final = SchedulerClass(
    name="DDIMScheduler",
    defaults={
        **TABLE,
        "timestep_spacing": "leading",
        "rescale_betas_zero_snr": False,
        "set_alpha_to_one": True,
        **CLIPPING,
    },
    inherited=UNCLIPPED,
    fixed={"thresholding": (False,)},
    grids=GRIDS,
    grid=ddim_grid,
    solver=always("ddim"),
    options=lambda fields: {"clip": clip(fields)},
)

PNDM: Final = SchedulerClass(
    name="PNDMScheduler",
    defaults={**TABLE, "timestep_spacing": "leading", "set_alpha_to_one": False},
    fixed={"skip_prk_steps": (True,)},
    grids=GRIDS,
    grid=ddim_grid,
    solver=always("pndm"),
    options=lambda fields: {"prediction": fields["prediction_type"]} if fields["prediction_type"] != "sample" else {},
    required=("skip_prk_steps",),
)

# Values of `solver_type` and `algorithm_type` written by related classes; they mean the default here.
_SIBLING_DIFFERENCES: Final = dict.fromkeys(("bh1", "bh2", "logrho"), "midpoint")
_ALGORITHMS: Final = {"dpmsolver++": "dpmpp2m", "dpmsolver": "dpm2m", "sde-dpmsolver++": "dpmpp2m-sde"}
_SINGLESTEP_ALGORITHMS: Final = {"dpmsolver++": "dpmpp2s", "sde-dpmsolver++": "dpmpp2s-sde"}


def _dpm_options(fields: Fields) -> dict[str, Any]:
    """Options of DPM-Solver multistep."""
    return {
        "solver_order": fields["solver_order"],
        "second_order": fields.choice("solver_type", DIFFERENCES, _SIBLING_DIFFERENCES),
        "lower_order_final": fields["lower_order_final"],
        "euler_at_final": fields["euler_at_final"],
    }


DPM_MULTISTEP: Final = SchedulerClass(
    name="DPMSolverMultistepScheduler",
    defaults={
        **TABLE,
        **RAMP_FLAGS,
        **FLOW,
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
    grids=GRIDS,
    grid=lambda fields, steps: dpm_grid(fields, steps, rounded=fields["beta_schedule"] != "squaredcos_cap_v2"),
    solver=lambda fields: _ALGORITHMS[fields.choice("algorithm_type", _ALGORITHMS, {"deis": "dpmsolver++"})],
    options=_dpm_options,
)


def _singlestep_options(fields: Fields) -> dict[str, Any]:
    """Options of DPM-Solver++ singlestep."""
    return {
        "solver_order": fields["solver_order"],
        "second_order": fields.choice("solver_type", DIFFERENCES, _SIBLING_DIFFERENCES),
        "lower_order_final": fields["lower_order_final"],
    }


DPM_SINGLESTEP: Final = SchedulerClass(
    name="DPMSolverSinglestepScheduler",
    defaults={
        **{key: value for key, value in TABLE.items() if key not in ("steps_offset", "timestep_spacing")},
        **RAMP_FLAGS,
        **FLOW,
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
    grids=GRIDS,
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
        **TABLE,
        **RAMP_FLAGS,
        **FLOW,
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
    grids=GRIDS,
    grid=lambda fields, steps: dpm_grid(fields, steps, flow_from_one=True, flow_stays=True),
    solver=always("unipc"),
    options=lambda fields: {
        "solver_order": fields["solver_order"],
        "scale": fields.choice("solver_type", SCALES, dict.fromkeys(("midpoint", "heun", "logrho"), "bh2")),
        "lower_order_final": fields["lower_order_final"],
        "disable_corrector": tuple(fields["disable_corrector"]),
    },
)

DEIS_MULTISTEP: Final = SchedulerClass(
    name="DEISMultistepScheduler",
    defaults={**TABLE, **RAMP_FLAGS, **FLOW, "solver_order": 2, "lower_order_final": True},
    fixed={
        "thresholding": (False,),
        "algorithm_type": ("deis", "dpmsolver", "dpmsolver++"),
        "solver_type": ("logrho", "midpoint", "heun", "bh1", "bh2"),
    },
    grids=GRIDS,
    grid=lambda fields, steps: dpm_grid(fields.replace(final_sigmas_type="sigma_min"), steps, flow_stays=True),
    solver=always("deis"),
    options=lambda fields: {
        "solver_order": fields["solver_order"],
        "lower_order_final": fields["lower_order_final"],
    },
)


GENERAL_CLASSES: Final = (
    DDIM,
    DEIS_MULTISTEP,
    DPM_MULTISTEP,
    DPM_SINGLESTEP,
    EULER,
    EULER_ANCESTRAL,
    HEUN,
    PNDM,
    UNIPC,
)
