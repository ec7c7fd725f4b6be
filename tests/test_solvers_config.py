"""Scheduler configs: which grid and solver they stand for, and what is refused by name."""

from typing import Any

import pytest

from sadaflow.solvers import PLMS, DPMpp, Euler, RectifiedFlow, from_scheduler_config, make_solver
from sadaflow.solvers.config import CLASSES

TABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
# As published with Stable Diffusion 1.5 and 2.1, stray fields of other classes included.
SD15: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    **TABLE,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
SD21 = {**SD15, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}


def test_own_solver_and_grid() -> None:
    pndm = from_scheduler_config(SD15, 8)
    assert isinstance(pndm.solver, PLMS) and pndm.prediction == "epsilon"
    assert [node.t for node in pndm.solver.nodes] == [876, 751, 751, 626, 501, 376, 251, 126, 1]
    ddim = from_scheduler_config(SD21, 8)
    assert isinstance(ddim.solver, Euler) and ddim.prediction == "v_prediction"
    assert ddim.grid.t.tolist() == [876, 751, 626, 501, 376, 251, 126, 1, 0]


def test_named_solver_brings_its_own_conventions() -> None:
    """What the config leaves out follows the named solver's class: leading for DDIM, linspace for Euler and DPM++."""
    assert from_scheduler_config(SD21, 10, "euler").grid.t.tolist() == [*range(999, 0, -111), 0, -1]
    dpm = from_scheduler_config(SD21, 10, "dpmpp2m")
    assert dpm.grid.timestep.tolist() == [999, 899, 799, 699, 599, 500, 400, 300, 200, 100]
    assert isinstance(dpm.solver, DPMpp) and dpm.solver.solver_order == 2
    written = {**SD21, "timestep_spacing": "leading"}
    assert from_scheduler_config(written, 10, "euler").grid.t.tolist() == [*range(901, 0, -100), -1]


def test_defaults_that_were_saved_do_not_count_for_another_class() -> None:
    saved = {**SD21, "timestep_spacing": "leading", "_use_default_values": ["timestep_spacing"]}
    assert from_scheduler_config(saved, 10, "euler").grid.t[0] == 999
    assert from_scheduler_config(saved, 10).grid.t[0] == 901


def test_grid_by_name() -> None:
    karras = from_scheduler_config(SD15, 10, "dpmpp2m", "karras")
    ratio = karras.grid.sigma / karras.grid.alpha
    assert float(ratio[0]) == pytest.approx(14.6146, abs=1e-3) and float(ratio[-2]) == pytest.approx(0.0292, abs=1e-3)
    assert from_scheduler_config(SD15, 10, grid="trailing").grid.t[0] == 999
    for grid in ("karras", "exponential", "beta"):
        for solver in ("ddim", "pndm", "euler", "dpmpp3m"):
            assert from_scheduler_config(SD15, 10, solver, grid).grid.n_steps in (9, 10)


def test_flow_shift_by_resolution() -> None:
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True, "shift": 3.0}
    with pytest.raises(ValueError, match="image_tokens"):
        from_scheduler_config(config, 10)
    setup = from_scheduler_config(config, 10, image_tokens=4096)
    assert isinstance(setup.schedule, RectifiedFlow) and setup.prediction == "flow_prediction"
    assert float(setup.grid.t[5]) == pytest.approx(1 / (1 + 2.718281828**-1.15), rel=1e-6)
    assert setup.grid.timestep.tolist() == pytest.approx((1000 * setup.grid.t[:-1]).tolist())
    assert isinstance(from_scheduler_config(config, 10, "dpmpp2m", image_tokens=4096).solver, DPMpp)


@pytest.mark.parametrize("name", CLASSES)
def test_every_fixed_field_is_refused_by_name(name: str) -> None:
    cls = CLASSES[name]
    base = {"_class_name": name, **{key: cls.fixed[key][0] for key in cls.required}}
    for key in cls.fixed:
        with pytest.raises(ValueError, match=f"{key}='something else'"):
            from_scheduler_config({**base, key: "something else"}, 10)
    for key in cls.required:
        with pytest.raises(ValueError, match=f"leaves out {key}"):
            from_scheduler_config({k: v for k, v in base.items() if k != key}, 10)


@pytest.mark.parametrize(
    ("change", "keywords", "message"),
    [
        ({"_class_name": "LCMScheduler"}, {}, "'LCMScheduler'; known are DDIMScheduler"),
        ({"beta_schedule": "cubic"}, {}, "beta_schedule 'cubic'"),
        ({"timestep_spacing": "even"}, {}, "timestep_spacing 'even'"),
        ({"prediction_type": "score"}, {}, "prediction_type"),
        ({"new_idea": 1}, {}, "new_idea"),
        ({}, {"solver": "rk45"}, "unknown solver 'rk45'; known are euler, ddim"),
        ({}, {"grid": "even"}, "unknown grid 'even'; known for PNDMScheduler are linspace"),
        ({}, {"steps": 0}, "steps=0"),
        ({}, {"steps": 1001}, "1 to 1000 steps"),
        ({}, {"steps": 1000, "solver": "dpmpp2m"}, "1 to 999 steps"),
    ],
)
def test_refused(change: dict[str, Any], keywords: dict[str, Any], message: str) -> None:
    config = {**SD15, "prediction_type": "epsilon", **change}
    with pytest.raises(ValueError, match=message):
        from_scheduler_config(config, **{"steps": 10, **keywords})


def test_unknown_solver_lists_the_known_ones() -> None:
    grid = from_scheduler_config(SD15, 10).grid
    with pytest.raises(ValueError, match="unknown solver 'rk45'; known are euler, ddim, dpmpp1, dpmpp2m"):
        make_solver("rk45", grid)
