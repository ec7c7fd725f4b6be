"""Scheduler classes of the Hub that sample in sigma space, and those with a schedule of their own (EDM, iPNDM)."""

import math
from dataclasses import replace
from typing import Any, Final

from ..dpmpp import DIFFERENCES
from ..prediction import Preconditioned
from ..spacing import RAMPS
from .common import FLOW, GRIDS, RAMP_FLAGS, TABLE, always, chosen_ramp, no_options
from .fields import Fields, SchedulerClass
from .grids import euler_grid
from .grids_sigma import edm_grid, explicit_cosine_grid, explicit_edm_grid, ipndm_grid, sa_grid, two_stage_grid

_SIGMA: Final = {**TABLE, **RAMP_FLAGS}
_STABLE_DIFFUSION: Final = {**_SIGMA, "beta_start": 0.00085, "beta_end": 0.012}

KDPM2_DISCRETE: Final = SchedulerClass(
    name="KDPM2DiscreteScheduler",
    defaults=_STABLE_DIFFUSION,
    fixed={},
    grids=GRIDS,
    grid=lambda fields, steps: two_stage_grid(fields, steps, rounded=True),
    solver=always("kdpm2"),
    options=no_options,
)

KDPM2_ANCESTRAL: Final = replace(
    KDPM2_DISCRETE, name="KDPM2AncestralDiscreteScheduler", solver=always("kdpm2-ancestral")
)

LMS: Final = SchedulerClass(
    name="LMSDiscreteScheduler",
    defaults=_SIGMA,
    fixed={},
    grids=GRIDS,
    grid=lambda fields, steps: euler_grid(fields.replace(final_sigmas_type="zero"), steps),
    solver=always("lms"),
    options=no_options,
)

DPM_SDE: Final = SchedulerClass(
    name="DPMSolverSDEScheduler",
    defaults=_STABLE_DIFFUSION,
    fixed={},
    grids=GRIDS,
    grid=lambda fields, steps: two_stage_grid(fields, steps, rounded=False),
    solver=always("dpmpp-sde"),
    options=no_options,
    unused={"noise_sampler_seed": "it seeds Diffusers' Brownian tree; here noise depends on the seeds of the call"},
)

IPNDM_CLASS: Final = SchedulerClass(
    name="IPNDMScheduler",
    defaults={"num_train_timesteps": 1000},  # replaced before sampling, so without effect
    fixed={"trained_betas": (None,)},  # Diffusers uses them as sigmas of the inference steps
    grids=("linspace",),
    grid=ipndm_grid,
    solver=always("ipndm"),
    options=lambda fields: {"prediction": "epsilon"},
    prediction=lambda fields: "v_prediction",
    explicit=explicit_cosine_grid,
)


def _sa_options(fields: Fields) -> dict[str, Any]:
    """Options of SA-Solver.

    Without a sigma ramp Diffusers continues to the table's first entry and does not correct x there.
    """
    return {
        "predictor_order": fields["predictor_order"],
        "corrector_order": fields["corrector_order"],
        "lower_order_final": fields["lower_order_final"],
        "correct_end": bool(fields["use_flow_sigmas"]) or chosen_ramp(fields) is not None,
    }


SA_SOLVER: Final = SchedulerClass(
    name="SASolverScheduler",
    defaults={
        **_SIGMA,
        **FLOW,
        "predictor_order": 2,
        "corrector_order": 2,
        "lower_order_final": True,
        "lambda_min_clipped": -math.inf,
    },
    fixed={
        # All values but the first are written by related classes; they mean the default here.
        "algorithm_type": ("data_prediction", "dpmsolver++", "sde-dpmsolver++", "dpmsolver", "deis"),
        "tau_func": (None,),  # a Python function, which a file cannot contain
        "thresholding": (False,),
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    },
    grids=GRIDS,
    grid=sa_grid,
    solver=always("sa-solver"),
    options=_sa_options,
)

_EDM: Final = {
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "sigma_schedule": "karras",
    "num_train_timesteps": 1000,  # without effect, as in iPNDM
    "prediction_type": "epsilon",
    "rho": 7.0,
    "final_sigmas_type": "zero",
}
_SIBLING_DIFFERENCES: Final = dict.fromkeys(("bh1", "bh2", "logrho"), "midpoint")
_EDM_ALGORITHMS: Final = {"dpmsolver++": "dpmpp2m", "sde-dpmsolver++": "dpmpp2m-sde"}


def _preconditioned(fields: Fields) -> Preconditioned:
    """Returns the prediction type. Diffusers accepts "sample" for these classes but fails when it samples."""
    prediction = fields.choice("prediction_type", ("epsilon", "v_prediction"))
    return Preconditioned(float(fields["sigma_data"]), prediction)


def _edm_dpm_options(fields: Fields) -> dict[str, Any]:
    """Options of DPM-Solver++ on EDM.

    With "sigma_min" Diffusers lowers the order of its last step, which has length zero and is omitted here.
    """
    clean = fields["final_sigmas_type"] == "zero"
    return {
        "solver_order": fields["solver_order"],
        "second_order": fields.choice("solver_type", DIFFERENCES, _SIBLING_DIFFERENCES),
        "lower_order_final": clean and fields["lower_order_final"],
        "euler_at_final": clean and fields["euler_at_final"],
    }


EDM_EULER: Final = SchedulerClass(
    name="EDMEulerScheduler",
    defaults=_EDM,
    fixed={},
    grids=RAMPS,
    grid=edm_grid,
    solver=always("euler"),
    options=no_options,
    prediction=_preconditioned,
    explicit=explicit_edm_grid,
)

EDM_DPM_MULTISTEP: Final = SchedulerClass(
    name="EDMDPMSolverMultistepScheduler",
    defaults={
        **_EDM,
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "solver_type": "midpoint",
        "lower_order_final": True,
        "euler_at_final": False,
    },
    fixed={"thresholding": (False,)},
    grids=RAMPS,
    grid=edm_grid,
    solver=lambda fields: _EDM_ALGORITHMS[fields.choice("algorithm_type", _EDM_ALGORITHMS, {"deis": "dpmsolver++"})],
    options=_edm_dpm_options,
    prediction=_preconditioned,
    explicit=explicit_edm_grid,
)

SIGMA_CLASSES: Final = (
    DPM_SDE,
    EDM_DPM_MULTISTEP,
    EDM_EULER,
    IPNDM_CLASS,
    KDPM2_ANCESTRAL,
    KDPM2_DISCRETE,
    LMS,
    SA_SOLVER,
)
