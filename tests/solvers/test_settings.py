"""Settings of solvers: ends of ranges are taken, what lies beyond is refused, and defaults are the published ones."""

import math
from typing import Any

import pytest

from sadaflow.solvers import SOLVERS, RectifiedFlow, make_solver
from sadaflow.solvers.checks.problems import GRIDS
from sadaflow.solvers.runge_kutta import Churn

GRID = GRIDS["vp-karras"](8)
RANGES = {
    # field: solvers that have it, least value, greatest value, values beyond
    "eta": (("dpmpp2m", "dpmpp2s", "dpmpp-sde", "kdpm2"), 0.0, 5.0, (-1e-9, math.inf, math.nan)),
    "tau": (("sa-solver",), 0.0, 5.0, (-1e-9, math.inf, math.nan)),
    "gamma": (("tcd",), 0.0, 1.0, (-1e-9, 1 + 1e-9, math.inf, math.nan)),
    "solver_order": (("dpmpp2m", "dpmpp2s", "unipc", "ab2", "dpm2m", "deis", "exp-ab2"), None, None, (0, 9, -1)),
    "predictor_order": (("sa-solver",), 1, 3, (0, 4)),
    "corrector_order": (("sa-solver",), 1, 4, (0, 5)),
}
ORDERS = {"dpmpp2m": (1, 3), "dpmpp2s": (2, 3), "unipc": (1, 3), "ab2": (2, 4), "dpm2m": (2, 3), "deis": (1, 3),
          "exp-ab2": (2, 3)}  # fmt: skip


@pytest.mark.parametrize(("field", "name"), [(field, name) for field, row in RANGES.items() for name in row[0]])
def test_the_ends_of_a_range_are_taken_and_what_lies_beyond_is_refused(field: str, name: str) -> None:
    _, least, greatest, beyond = RANGES[field]
    if field == "solver_order":
        least, greatest = ORDERS[name]
    for value in (least, greatest):
        assert getattr(make_solver(name, GRID, **{field: value}), field) == value
    for wrong in beyond:
        with pytest.raises(ValueError, match=field.removesuffix("_order").split("_")[-1]):
            make_solver(name, GRID, **{field: wrong})


@pytest.mark.parametrize("wrong", [{"amount": -1e-9}, {"scale": -1e-9}, {"scale": math.inf}, {"amount": math.nan}])
def test_churn_refuses_what_no_noise_can_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Churn needs amount and finite scale"):
        Churn(**{"amount": 0.0, **wrong})


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # Diffusers' DPMSolverMultistepScheduler
        ("dpmpp2m", {"solver_order": 2, "eta": 0.0, "second_order": "midpoint", "lower_order_final": True}),
        ("dpm2m", {"solver_order": 2, "second_order": "midpoint", "lower_order_final": True}),
        # Diffusers' DPMSolverSinglestepScheduler
        ("dpmpp2s", {"second_order": "midpoint", "lower_order_final": False}),
        ("dpmpp-sde", {"eta": 1.0}),  # k-diffusion's sample_dpmpp_sde
        ("dpmpp3m-sde", {"eta": 1.0, "solver_order": 3}),  # k-diffusion's sample_dpmpp_3m_sde
        ("kdpm2-ancestral", {"eta": 1.0}),  # k-diffusion's sample_dpm_2_ancestral
        # Diffusers' SASolverScheduler
        ("sa-solver", {"predictor_order": 2, "corrector_order": 2, "tau": 1.0, "lower_order_final": True}),
        ("tcd", {"gamma": 0.3}),  # Diffusers' TCDScheduler, eta
        ("unipc", {"solver_order": 2, "scale": "bh2", "lower_order_final": True}),  # Diffusers' UniPCMultistepScheduler
        ("deis", {"solver_order": 2, "lower_order_final": True}),  # Diffusers' DEISMultistepScheduler
        ("heun", {"method": "heun", "churn": None}),  # Karras et al. 2022, algorithm 1
        ("ddpm", {"variance": "fixed_small"}),  # Diffusers' DDPMScheduler
        ("lms", {"solver_order": 4}),  # Diffusers' LMSDiscreteScheduler
        ("gradient_estimation", {"gamma": 2.0}),  # Permenter & Yuan 2023
        ("er_sde", {"solver_order": 3, "scale": "er_sde"}),  # Cui et al. 2023, ER-SDE-Solver-3
        ("seeds_2", {"eta": 1.0}),  # Gonzalez et al. 2023
    ],
)
def test_defaults_are_those_of_the_published_code(name: str, published: dict[str, Any]) -> None:
    solver = make_solver(name, GRID)
    assert {field: getattr(solver, field) for field in published} == published


def test_names_draw_noise_as_their_methods_do() -> None:
    drawn = {name for name, entry in SOLVERS.items() if entry.stochastic}
    named = {"euler-ancestral", "ddpm", "lcm", "tcd", "kdpm2-ancestral", "sa-solver", "er_sde", "seeds_2", "seeds_3"}
    assert drawn == named | {name for name in SOLVERS if name.endswith("-sde")}


def test_networks_of_flow_time_are_told_it_in_thousandths() -> None:
    assert RectifiedFlow().timestep_scale == 1000.0 and RectifiedFlow().timestep_unit == 1.0
    assert RectifiedFlow(timestep_scale=-1.0).timestep_unit == 0.001
