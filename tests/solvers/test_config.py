"""Scheduler configs: the grid and solver that they describe, and fields rejected by name."""

from typing import Any

import pytest
import torch

from sadaflow.solvers import (
    PLMS,
    SOLVERS,
    DPMpp,
    Euler,
    EulerAncestral,
    RectifiedFlow,
    SeededNoise,
    UniPC,
    draws_noise,
    from_scheduler_config,
    make_solver,
)
from sadaflow.solvers.scheduler_config.catalogue import CLASSES

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
        ({"_class_name": "OwnScheduler"}, {}, "'OwnScheduler'; known are .*DDIMScheduler"),
        ({"beta_schedule": "cubic"}, {}, "beta_schedule 'cubic'"),
        ({"timestep_spacing": "even"}, {}, "timestep_spacing 'even'"),
        ({"prediction_type": "score"}, {}, "prediction_type"),
        ({"new_idea": 1}, {}, "new_idea"),
        ({}, {"solver": "rk45"}, r"unknown solver 'rk45' \(did you mean 'rk4'\?\); known are euler, ddim"),
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
    with pytest.raises(ValueError, match=r"unknown solver 'rk45' .*; known are euler, ddim, dpmpp1, dpmpp2m"):
        make_solver("rk45", grid)


SDXL: dict[str, Any] = {
    "_class_name": "EulerDiscreteScheduler",
    **TABLE,
    "num_train_timesteps": 1000,
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "clip_sample": False,
    "use_karras_sigmas": False,
}
# A flow model whose config belongs to the DPM-Solver family.
FLOW_DPM: dict[str, Any] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "use_flow_sigmas": True,
    "flow_shift": 3.0,
    "prediction_type": "flow_prediction",
    "solver_order": 2,
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
}


@pytest.mark.parametrize("config", [SD15, SD21, SDXL, FLOW_DPM])
def test_any_config_serves_any_solver(config: dict[str, Any]) -> None:
    for name in SOLVERS:
        noise = SeededNoise((0, 1)) if draws_noise(name) else None
        setup = from_scheduler_config(config, 10, name, noise=noise)
        assert isinstance(setup.solver, SOLVERS[name].solver)
        assert isinstance(setup.schedule, RectifiedFlow) == (config is FLOW_DPM)
        state = setup.solver.start(torch.ones(2, 3))
        while state.step < setup.solver.n_evals:
            state = setup.solver.step(state, torch.zeros(2, 3))
        assert bool(torch.isfinite(state.x).all())


def test_settings_of_sibling_classes_mean_the_default() -> None:
    """As in Diffusers: solver_type and algorithm_type are shared names with class-specific values."""
    unipc = {**SDXL, "_class_name": "UniPCMultistepScheduler", "solver_type": "bh1", "solver_order": 3}
    own = from_scheduler_config(unipc, 10).solver
    assert isinstance(own, UniPC) and own.scale == "bh1" and own.solver_order == 3
    dpm = from_scheduler_config(unipc, 10, "dpmpp2m").solver
    assert isinstance(dpm, DPMpp) and dpm.second_order == "midpoint" and dpm.solver_order == 2
    heun = {**SDXL, "_class_name": "DPMSolverMultistepScheduler", "solver_type": "heun"}
    second = from_scheduler_config(heun, 10, "unipc").solver
    assert isinstance(second, UniPC) and second.scale == "bh2"
    assert from_scheduler_config({**heun, "algorithm_type": "dpmsolver"}, 10).solver.output_type == "epsilon"  # type: ignore
    with pytest.raises(ValueError, match="algorithm_type='sde-dpmsolver'"):
        from_scheduler_config({**heun, "algorithm_type": "sde-dpmsolver"}, 10)
    with pytest.raises(ValueError, match="solver_type='taylor'"):
        from_scheduler_config({**heun, "solver_type": "taylor"}, 10)


def test_stochastic_configs_take_the_noise_source() -> None:
    noise = SeededNoise((3,))
    config = {**SDXL, "_class_name": "EulerAncestralDiscreteScheduler"}
    solver = from_scheduler_config(config, 10, noise=noise).solver
    assert isinstance(solver, EulerAncestral) and solver.noise is noise
    sde = from_scheduler_config({**FLOW_DPM, "algorithm_type": "sde-dpmsolver++"}, 10, noise=noise).solver
    assert isinstance(sde, DPMpp) and sde.eta == 1 and sde.noise is noise
    assert isinstance(from_scheduler_config(SDXL, 10, noise=noise).solver, Euler)  # has no use for it
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "stochastic_sampling": True}
    assert isinstance(from_scheduler_config(flow, 10, noise=noise).solver, EulerAncestral)
    assert isinstance(from_scheduler_config(flow, 10, "euler").solver, Euler)


def test_points_of_the_users_own() -> None:
    told = from_scheduler_config(SDXL, 3, "dpmpp2m", timesteps=[900, 500, 20]).grid
    assert told.t.tolist() == [900, 500, 20, -1] and told.timestep.tolist() == [900, 500, 20]
    levels = from_scheduler_config(SDXL, 3, sigmas=[10.0, 3.0, 0.5, 0.0]).grid
    assert (levels.sigma / levels.alpha).tolist() == pytest.approx([10.0, 3.0, 0.5, 0.0])
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    assert from_scheduler_config(flow, 2, sigmas=[1.0, 0.4, 0.0]).grid.t.tolist() == [1.0, 0.4, 0.0]
    assert from_scheduler_config(flow, 2, timesteps=[1000, 400]).grid.t.tolist() == [1.0, 0.4, 0.0]
    with pytest.raises(ValueError, match="3 steps need 4 sigmas, got 3"):
        from_scheduler_config(SDXL, 3, sigmas=[10.0, 3.0, 0.5])
    with pytest.raises(ValueError, match="not several"):
        from_scheduler_config(SDXL, 1, grid="karras", timesteps=[900])


def test_a_grid_of_the_users_own() -> None:
    own = from_scheduler_config(SDXL, 60, "dpmpp2m").grid
    setup = from_scheduler_config(SDXL, 60, "lcm", own)  # more steps than LCM has timesteps of its own for
    assert setup.grid is own and setup.solver.grid is own and setup.schedule is own.schedule
    with pytest.raises(ValueError, match="a grid of 60 steps was given for 20 steps"):
        from_scheduler_config(SDXL, 20, "lcm", own)


def test_flow_grids_by_name() -> None:
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    assert from_scheduler_config(flow, 4, grid="linspace").grid.t.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert from_scheduler_config(flow, 4).grid.t.tolist() == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])
    for rule in ("karras", "exponential", "beta"):
        t = from_scheduler_config(flow, 4, grid=rule).grid.t
        assert float(t[0]) == pytest.approx(1.0) and float(t[3]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="unknown grid 'leading'; known for FlowMatchEuler"):
        from_scheduler_config(flow, 4, grid="leading")
    with pytest.raises(ValueError, match="use_karras_sigmas"):
        from_scheduler_config({**FLOW_DPM, "use_karras_sigmas": True}, 4)
