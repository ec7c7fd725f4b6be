"""Whole trajectories against Diffusers' schedulers, on the exact denoiser of a Gaussian mixture.

Diffusers keeps its tables, and x inside `step`, in float32 whatever the dtype given: what remains is that rounding.
"""

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from sadaflow.solvers import Grid, RectifiedFlow, SolverSetup, State, from_scheduler_config, make_solver
from support.trajectories import SD, TOLERANCE, Recorded, RecordedFloat32, compare, ours, scaled, theirs, unit, worst

STEPS = [10, 20, 50]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_euler(spacing: str, karras: bool, prediction: str, steps: int) -> None:
    config = {**SD, "timestep_spacing": spacing, "use_karras_sigmas": karras, "prediction_type": prediction}
    config |= {"steps_offset": 1} if spacing == "leading" else {}
    assert compare(EulerDiscreteScheduler, config, steps, scaled) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpmpp(order: int, spacing: str, karras: bool, prediction: str, steps: int) -> None:
    config = {**SD, "timestep_spacing": spacing, "use_karras_sigmas": karras, "prediction_type": prediction}
    config |= {"solver_order": order, "steps_offset": 1 if spacing == "leading" else 0}
    assert compare(DPMSolverMultistepScheduler, config, steps, unit) < TOLERANCE


@pytest.mark.parametrize("steps", [14, 15])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_dpmpp_lowers_its_order_in_runs_of_fewer_than_15_steps(steps: int, final: str) -> None:
    config = {**SD, "solver_order": 3, "final_sigmas_type": final, "timestep_spacing": "linspace"}
    assert compare(DPMSolverMultistepScheduler, config, steps, unit) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("to_one", [False, True])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_and_pndm(spacing: str, to_one: bool, prediction: str, steps: int) -> None:
    """Not linspace: there Diffusers' steps do not end where the next ones start."""
    config = {**SD, "steps_offset": 1, "set_alpha_to_one": to_one, "prediction_type": prediction}
    config["timestep_spacing"] = spacing
    assert compare(DDIMScheduler, {**config, "clip_sample": False}, steps, unit) < TOLERANCE
    assert compare(PNDMScheduler, {**config, "skip_prk_steps": True}, steps, unit) < TOLERANCE


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_other_tables_and_ends(schedule: str, final: str) -> None:
    config = {"beta_schedule": schedule, "final_sigmas_type": final, "prediction_type": "v_prediction"}
    # Diffusers' Euler subtracts, in float32, numbers of the size of sigma/alpha: 20291 at the cosine table's end, where
    # the next point has 12.8, so it loses about 20291 / 12.8 float32 roundings in that step. Ours never forms them.
    lost = 2.0**-23 * 20291 / 12.8 if schedule == "squaredcos_cap_v2" else 0.0
    config_euler = {**config, "timestep_spacing": "trailing"}
    assert compare(EulerDiscreteScheduler, config_euler, 20, scaled) < max(TOLERANCE, lost)
    assert compare(DPMSolverMultistepScheduler, {**config, "solver_type": "heun"}, 20, unit) < TOLERANCE
    assert compare(DPMSolverMultistepScheduler, {**config, "lower_order_final": False}, 10, unit) < TOLERANCE
    assert compare(DPMSolverMultistepScheduler, {**config, "euler_at_final": True}, 20, unit) < TOLERANCE


def test_zero_terminal_snr() -> None:
    config = {**SD, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    assert compare(EulerDiscreteScheduler, config, 20, scaled) < TOLERANCE
    assert compare(DPMSolverMultistepScheduler, config, 20, unit) < TOLERANCE
    assert compare(DDIMScheduler, {**config, "clip_sample": False}, 20, unit) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rule", ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", None])
def test_flow(rule: str | None, steps: int) -> None:
    config: dict[str, Any] = {"shift": 3.0, **({rule: True} if rule else {})}
    given = {"sigmas": [1 - i / steps for i in range(steps)]}
    assert compare(FlowMatchEulerDiscreteScheduler, config, steps, unit, **given) < TOLERANCE


SPACINGS = ["linspace", "leading", "trailing"]


def spaced(spacing: str, karras: bool, prediction: str = "v_prediction", **more: Any) -> dict[str, Any]:
    offset = 1 if spacing == "leading" else 0
    common = {"timestep_spacing": spacing, "steps_offset": offset, "prediction_type": prediction}
    return {**SD, **common, "use_karras_sigmas": karras, **more}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_heun(spacing: str, karras: bool, steps: int) -> None:
    for prediction in ("epsilon", "v_prediction", "sample"):
        config = spaced(spacing, karras, prediction)
        assert compare(HeunDiscreteScheduler, config, steps, scaled) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_euler_ancestral(spacing: str, steps: int) -> None:
    config = spaced(spacing, False)
    del config["use_karras_sigmas"]
    assert compare(EulerAncestralDiscreteScheduler, config, steps, scaled, noise=Recorded()) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc(order: int, spacing: str, karras: bool, steps: int) -> None:
    for scale in ("bh1", "bh2"):
        config = spaced(spacing, karras, solver_order=order, solver_type=scale)
        assert compare(UniPCMultistepScheduler, config, steps, unit) < TOLERANCE
    plain = spaced(spacing, karras, "epsilon", solver_order=order, disable_corrector=[0, 1])
    assert compare(UniPCMultistepScheduler, plain, steps, unit) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis(order: int, spacing: str, karras: bool, steps: int) -> None:
    # On a ramp Diffusers' last step has length zero and takes the lower order that ours takes at its own last step.
    config = spaced(spacing, karras, solver_order=order, lower_order_final=not karras)
    # The third-order coefficients cancel: Diffusers' own, in float32, move x by up to 3e-4 at 50 steps.
    assert compare(DEISMultistepScheduler, config, steps, unit, float64=order == 3) < TOLERANCE


@pytest.mark.parametrize("steps", [10, 12, 20, 50])
@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("difference", ["midpoint", "heun"])
def test_singlestep(difference: str, order: int, karras: bool, steps: int) -> None:
    config = {**SD, "use_karras_sigmas": karras, "solver_order": order, "solver_type": difference}
    assert compare(DPMSolverSinglestepScheduler, config, steps, unit) < TOLERANCE
    if order < 3:  # Diffusers' third-order SDE step has a wrong sign, see below
        config = {**config, "algorithm_type": "sde-dpmsolver++"}
        assert compare(DPMSolverSinglestepScheduler, config, steps, unit, noise=Recorded()) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("difference", ["midpoint", "heun"])
def test_dpm_solver_and_sde(difference: str, spacing: str, steps: int) -> None:
    for order in (1, 2, 3):
        config = spaced(spacing, False, solver_order=order, solver_type=difference, final_sigmas_type="sigma_min")
        assert compare(DPMSolverMultistepScheduler, {**config, "algorithm_type": "dpmsolver"}, steps, unit) < TOLERANCE
    for order in (1, 2):
        config = spaced(spacing, True, solver_order=order, solver_type=difference, algorithm_type="sde-dpmsolver++")
        assert compare(DPMSolverMultistepScheduler, config, steps, unit, noise=RecordedFloat32()) < TOLERANCE


@pytest.mark.parametrize("rule", ["use_exponential_sigmas", "use_beta_sigmas"])
def test_other_ramps(rule: str) -> None:
    config = {**SD, rule: True, "prediction_type": "v_prediction"}
    assert compare(EulerDiscreteScheduler, config, 20, scaled) < TOLERANCE
    assert compare(HeunDiscreteScheduler, config, 20, scaled) < TOLERANCE
    for scheduler in (DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler, UniPCMultistepScheduler):
        assert compare(scheduler, config, 20, unit, atol=1.0) < TOLERANCE


def test_lu_and_clipped_log_snr() -> None:
    config = {**SD, "prediction_type": "v_prediction"}
    assert compare(DPMSolverMultistepScheduler, {**config, "use_lu_lambdas": True}, 20, unit) < TOLERANCE
    cosine = {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1, "prediction_type": "v_prediction"}
    for spacing in ("linspace", "leading"):
        assert compare(DPMSolverMultistepScheduler, {**cosine, "timestep_spacing": spacing}, 20, unit) < TOLERANCE
    assert compare(DPMSolverSinglestepScheduler, cosine, 20, unit) < TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
def test_flow_sigmas_of_the_dpm_family(steps: int) -> None:
    config = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
    for scheduler in (DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler, UniPCMultistepScheduler):
        assert compare(scheduler, config, steps, unit) < TOLERANCE
    ends_early = {**config, "final_sigmas_type": "sigma_min"}
    assert compare(UniPCMultistepScheduler, {**ends_early, "lower_order_final": False}, steps, unit) < TOLERANCE
    deis = {**config, "lower_order_final": False}
    assert compare(DEISMultistepScheduler, deis, steps, unit, float64=True) < TOLERANCE  # 1 - sigma cancels in float32
    dynamic = {**config, "use_dynamic_shifting": True}
    mu = 0.5 + 0.65 * (1024 - 256) / (4096 - 256)
    assert compare(UniPCMultistepScheduler, dynamic, steps, unit, mu=mu, image_tokens=1024) < TOLERANCE
    assert compare(DPMSolverMultistepScheduler, dynamic, steps, unit, mu=mu, image_tokens=1024) < TOLERANCE


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_dynamic_flow_shift_and_terminal(kind: str) -> None:
    config = {"use_dynamic_shifting": True, "shift": 3.0, "time_shift_type": kind, "shift_terminal": 0.1}
    mu = 0.5 + 0.65 * (1024 - 256) / (4096 - 256)
    options = {"sigmas": [1 - i / 20 for i in range(20)], "mu": mu, "image_tokens": 1024}
    assert compare(FlowMatchEulerDiscreteScheduler, config, 20, unit, **options) < TOLERANCE


def test_stochastic_flow() -> None:
    config = {"stochastic_sampling": True, "shift": 3.0}
    options = {"sigmas": [1 - i / 20 for i in range(20)], "noise": RecordedFloat32()}
    assert compare(FlowMatchEulerDiscreteScheduler, config, 20, unit, **options) < TOLERANCE


def test_flow_heun() -> None:
    scheduler = FlowMatchHeunDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(20)
    t = [*dict.fromkeys(scheduler.sigmas.tolist())]
    grid = Grid.from_t(RectifiedFlow(), t)
    setup = SolverSetup(make_solver("heun", grid), "flow_prediction", grid.schedule, grid)
    assert worst(ours(setup), theirs(scheduler, setup, unit)) < TOLERANCE


def test_third_order_sde_where_diffusers_has_a_wrong_sign() -> None:
    """The weight of the second difference must vanish with the step; Diffusers' tends to -alpha', ours to 0."""
    config = spaced("linspace", False, solver_order=3, algorithm_type="sde-dpmsolver++")
    scheduler = DPMSolverMultistepScheduler(**config)
    setup = from_scheduler_config({"_class_name": "DPMSolverMultistepScheduler", **config}, 50, noise=RecordedFloat32())
    scheduler.set_timesteps(50)
    step, generator = 25, torch.Generator().manual_seed(0)
    x, *answers = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    draw = RecordedFloat32()(step + 1, (0.0, 0.0), x)
    scheduler._step_index = step
    theirs = scheduler.multistep_dpm_solver_third_order_update(answers[::-1], sample=x, noise=draw)
    mine = setup.solver.step(State(x, step, tuple(answers[1:])), answers[0]).x
    alpha, log_snr = setup.grid.alpha.tolist(), setup.grid.log_snr.tolist()
    h = log_snr[step + 1] - log_snr[step]
    past = [log_snr[step - k] - log_snr[step - k - 1] for k in range(2)]
    slopes = [(answers[k] - answers[k + 1]) / past[k] for k in range(2)]
    second = h * h * (slopes[0] - slopes[1]) / sum(past)
    torch.testing.assert_close(mine - theirs, alpha[step + 1] * second, rtol=1e-4, atol=1e-5)
