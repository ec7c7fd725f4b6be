"""Grids by rules of noise levels, against published values, SciPy's beta distribution and Diffusers."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from diffusers.schedulers import AysSchedules

from sadaflow.solvers import EDM, VPDiscrete, from_scheduler_config, make_solver
from sadaflow.solvers.checks.problems import final_x, mixture, stable_diffusion, unit_noise
from sadaflow.solvers.level_tables import TABLES, stretched
from sadaflow.solvers.levels import LEVEL_RULES, named_levels, polyexponential

SD = {
    "_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "beta_end": 0.012,
}  # fmt: skip
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
PLAYGROUND = {"_class_name": "EDMEulerScheduler", "sigma_max": 80.0}
RULES = [name for name in LEVEL_RULES if name not in TABLES]


def sd_levels() -> np.ndarray:
    table = stable_diffusion().alphas_cumprod.numpy()
    return np.sqrt((1 - table) / table)


# Published rules on Stable Diffusion's noise table at ten steps.
PUBLISHED = {
    "simple": "14.6146 8.3028 5.0878 3.3211 2.2765 1.6129 1.1606 .8299 .5693 .3417 0",
    "beta_timesteps": "14.6146 11.5428 7.3718 4.3728 2.6152 1.6183 1.0273 .6549 .3955 .1991 0",
    "kl_optimal": "14.6146 4.2324 2.3937 1.5971 1.133 .8152 .5729 .3725 .1953 .0292 0",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_rules_give_the_published_levels(name: str) -> None:
    expected = [float(value) for value in PUBLISHED[name].split()]
    np.testing.assert_allclose(named_levels(name, sd_levels(), 10), expected, atol=6e-5)


def test_ddim_uniform_picks_the_published_timesteps() -> None:
    levels = sd_levels()
    found = named_levels("ddim_uniform", levels, 10)
    np.testing.assert_array_equal(found, [*levels[901::-100], 0.0])
    np.testing.assert_allclose(found[[0, 1, -3, -2]], (8.3907, 5.1344, 0.3462, 0.0413), atol=6e-5)


def test_linear_quadratic_gives_the_published_levels() -> None:
    flow = np.arange(1, 1001) / 1000
    expected = (1, 0.995, 0.99, 0.985, 0.98, 0.975, 0.932, 0.813, 0.618, 0.347, 0)
    np.testing.assert_allclose(named_levels("linear_quadratic", flow, 10), expected, atol=6e-4)
    assert named_levels("linear_quadratic", flow, 1).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("steps", [1, 7, 33, 120])
def test_beta_timesteps_are_scipys_quantiles(steps: int) -> None:
    levels = sd_levels()
    at = scipy.stats.beta.ppf(1 - np.arange(steps) / steps, 0.6, 0.6)
    np.testing.assert_array_equal(
        named_levels("beta_timesteps", levels, steps)[:-1], levels[np.rint(at * 999).astype(int)]
    )


@pytest.mark.parametrize("steps", [1, 2, 9, 40])
def test_sgm_uniform_interpolates_logarithms(steps: int) -> None:
    levels, at = sd_levels(), np.linspace(999, 0, steps + 1)[:-1]
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, 999)
    expected = levels[low] ** (1 - at + low) * levels[high] ** (at - low)
    np.testing.assert_allclose(named_levels("sgm_uniform", levels, steps)[:-1], expected, rtol=1e-12)


def test_polyexponential_is_even_in_powers_of_the_logarithm() -> None:
    levels = sd_levels()
    found = np.log(polyexponential(levels, 12, rho=2.0)[:-1])
    share = (found - math.log(levels[0])) / (math.log(levels[-1]) - math.log(levels[0]))
    np.testing.assert_allclose(np.diff(np.sqrt(np.abs(share))), -1 / 11, rtol=1e-5)
    even = np.log(named_levels("polyexponential", levels, 12)[:-1])
    np.testing.assert_allclose(np.diff(even), (even[-1] - even[0]) / 11, rtol=1e-9)


@pytest.mark.parametrize(("name", "of_diffusers"), [("ays_sd", ""), ("ays_sdxl", "XL"), ("ays_svd", "Video")])
def test_align_your_steps_is_diffusers(name: str, of_diffusers: str) -> None:
    """Diffusers has the levels rounded to three digits, at timesteps that were rounded before."""
    published = AysSchedules[f"StableDiffusion{of_diffusers}Sigmas"]
    np.testing.assert_allclose(stretched(name, 10), published, atol=4e-3)


@pytest.mark.parametrize(("name", "of_diffusers"), [("ays_sd", ""), ("ays_sdxl", "XL")])
def test_align_your_steps_tells_the_network_the_published_timesteps(name: str, of_diffusers: str) -> None:
    found = from_scheduler_config(SD, 10, grid=name).grid.timestep.numpy()
    assert np.abs(found - AysSchedules[f"StableDiffusion{of_diffusers}Timesteps"]).max() < 1.0


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_interpolated_in_logarithms(name: str) -> None:
    rows = TABLES[name]
    for steps, row in rows.items():
        np.testing.assert_allclose(stretched(name, steps), [*row[:-1], 0.0], rtol=1e-14)
    double = stretched(name, 20)
    np.testing.assert_allclose(double[::2][:-1], rows[10][:-1], rtol=1e-12)
    np.testing.assert_allclose(double[1:-1:2] ** 2, np.array(rows[10])[:-1] * np.array(rows[10])[1:], rtol=1e-9)
    assert double[-1] == 0 and len(stretched(name, 3)) == 4


@pytest.mark.parametrize("name", LEVEL_RULES)
@pytest.mark.parametrize("config", [SD, FLOW, PLAYGROUND], ids=["sd", "flow", "edm"])
def test_every_rule_makes_a_grid_by_name_or_says_why_not(name: str, config: dict[str, Any]) -> None:
    if name in TABLES and (config is not SD or name == "ays_svd"):
        with pytest.raises(
            ValueError, match=f"grid '{name}' (is a table of sigma/alpha, and this|begins at sigma/alpha)"
        ):
            from_scheduler_config(config, 10, grid=name)
        return
    for steps in (1, 2, 10, 25):
        setup = from_scheduler_config(config, steps, solver="dpmpp2m", grid=name)
        grid = setup.grid
        assert grid.n_steps == steps and float(grid.sigma[-1]) == 0
        if isinstance(grid.schedule, VPDiscrete):  # the network gets the timestep of the level
            at = grid.schedule.t_from_log_snr(grid.log_snr[:-1])
            assert float((grid.timestep - at.clamp(0, 999)).abs().max()) < 0.6
        if isinstance(grid.schedule, EDM):
            assert grid.start_scale == pytest.approx(math.hypot(float(grid.sigma[0]), 1))
        state = setup.solver.start(torch.ones(1, 2))
        assert bool(torch.isfinite(setup.solver.step(state, torch.ones(1, 2)).x).all())


def test_flow_levels_are_shifted_as_the_config_says() -> None:
    grid = from_scheduler_config(FLOW, 10, grid="simple").grid
    t = 1 - np.arange(10) / 10
    np.testing.assert_allclose(grid.t.numpy()[:-1], 3 * t / (1 + 2 * t), rtol=1e-12)
    dynamic = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
    shift = math.exp(0.5 + 0.65 * (1024 - 256) / (4096 - 256))
    shifted = from_scheduler_config(dynamic, 10, grid="simple", image_tokens=1024).grid.t.numpy()[:-1]
    np.testing.assert_allclose(shifted, shift * t / (1 + (shift - 1) * t), rtol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_more_steps_come_nearer_to_the_data(name: str) -> None:
    """On a known distribution, samples of a grid of many steps agree with those of one with twice as many."""
    ends = []
    for steps in (60, 120):
        grid = from_scheduler_config(SD, steps, grid=name).grid
        solver = make_solver("dpmpp2m", grid)
        ends.append(final_x(solver, mixture().denoiser(solver), unit_noise(64, seed=3)))
    apart = (ends[0] - ends[1]).norm(dim=1).median()
    assert float(apart) < (0.5 if name == "linear_quadratic" else 0.12)


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("beta_timesteps", 200, "'beta_timesteps' has no 200 different noise levels: take fewer steps"),
        ("simple", 1001, "'simple' has no 1001 different noise levels"),
        ("karras57", 10, "unknown grid 'karras57'; known are simple, sgm_uniform"),
        ("simple", 0, "at least one step, got steps=0"),
    ],
)
def test_levels_refused(name: str, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_levels(name, sd_levels(), steps)


def test_a_config_lists_the_rules_among_its_grids() -> None:
    with pytest.raises(
        ValueError, match="unknown grid 'simpel'; known for EulerDiscreteScheduler are linspace, .*simple, "
    ):
        from_scheduler_config(SD, 10, grid="simpel")
    with pytest.raises(ValueError, match="not defined for IPNDMScheduler"):
        from_scheduler_config({"_class_name": "IPNDMScheduler"}, 10, grid="simple")
