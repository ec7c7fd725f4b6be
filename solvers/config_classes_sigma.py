"""Scheduler classes of the Hub that sample in sigma space, and those with EDM's preconditioning."""

from typing import Any, Final

from .config_fields import Fields, SchedulerClass
from .config_grids_sigma import edm_grid
from .dpmpp import DIFFERENCES
from .prediction import Preconditioned
from .spacing import RAMPS

_EDM: Final = {
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "sigma_schedule": "karras",
    # The length of a table that is made when the scheduler is, and replaced before sampling: no effect.
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "rho": 7.0,
    "final_sigmas_type": "zero",
}
_SIBLING_DIFFERENCES: Final = dict.fromkeys(("bh1", "bh2", "logrho"), "midpoint")
_EDM_ALGORITHMS: Final = {"dpmsolver++": "dpmpp2m", "sde-dpmsolver++": "dpmpp2m-sde"}


def _preconditioned(fields: Fields) -> Preconditioned:
    """What the network predicts. Diffusers lists "sample" for these classes and refuses it when it samples."""
    kind = fields.choice("prediction_type", ("epsilon", "v_prediction"))
    return Preconditioned(float(fields["sigma_data"]), kind)


def _edm_dpm_options(fields: Fields) -> dict[str, Any]:
    # With "sigma_min" Diffusers lowers the order of its last step, which has length zero and is left out here.
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
    solver=lambda fields: "euler",
    options=lambda fields: {},
    prediction=_preconditioned,
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
)
