"""Sigma-space samplers: whole trajectories against Diffusers, on the exact denoiser of a Gaussian mixture.

Diffusers keeps its tables in float32 whatever the dtype given: what remains of the differences is that rounding.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import (
    IPNDMScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
    SASolverScheduler,
)
from torch import Tensor

from sadaflow.solvers import SolverSetup, from_scheduler_config, from_x0, to_x0
from sadaflow.solvers.checks.problems import mixture

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
TOLERANCE = 1e-5
STEPS = (2, 4, 9, 20)
KARRAS, EXPONENTIAL, BETA = "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"
CASES = [
    (None, "linspace"),
    (None, "leading"),
    (None, "trailing"),
    (KARRAS, "linspace"),
    (KARRAS, "leading"),
    (EXPONENTIAL, "trailing"),
    (BETA, "leading"),
]
# Diffusers' schedulers turn tensors into arrays in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def noise() -> Tensor:
    return torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def draws(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(4, 2, generator=generator, dtype=torch.float64) for _ in range(count)]


class Numbered:
    """A noise source that hands out draw k to the k-th evaluation that draws; `every` evaluations draw once."""

    def __init__(self, every: int = 1) -> None:
        self.every = every

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return draws(index // self.every)[-1].to(like)


def ours(setup: SolverSetup) -> list[Tensor]:
    data, state, seen = mixture(), setup.solver.start(noise()), []
    while state.step < setup.solver.n_evals:
        seen.append(state.x)
        node = setup.solver.nodes[state.step]
        output = network(data.x0(state.x, node.alpha, node.sigma), state.x, setup, state.step)
        state = setup.solver.step(state, to_x0(setup.prediction, output, state.x, node.alpha, node.sigma))
    return [*seen, state.x]


def network(clean: Tensor, x: Tensor, setup: SolverSetup, index: int) -> Tensor:
    node = setup.solver.nodes[index]
    return from_x0(setup.prediction, clean, x, node.alpha, node.sigma)


def theirs(scheduler: Any, setup: SolverSetup, scaled: bool, atol: float, generator: bool) -> list[Tensor]:
    """The same by Diffusers; `scaled` turns its x of alpha = 1 into x = alpha x0 + sigma eps.

    Diffusers steps in float64 here; the timesteps that it tells the network must agree with ours to `atol`.
    """
    data, x, seen = mixture(), noise() * scheduler.init_noise_sigma, []
    nodes, end = setup.solver.nodes, setup.grid.points[-1]
    told = torch.tensor([node.timestep for node in nodes], dtype=torch.float64)
    assert len(scheduler.timesteps) == len(nodes)
    torch.testing.assert_close(scheduler.timesteps.double(), told, rtol=0, atol=atol)
    more = {"generator": torch.Generator().manual_seed(5)} if generator else {}
    for index, t in enumerate(scheduler.timesteps):
        node = nodes[index]
        seen.append(x * node.alpha if scaled else x)
        model_input = scheduler.scale_model_input(x, t)
        clean = data.x0(model_input, node.alpha, node.sigma)
        x = scheduler.step(network(clean, model_input, setup, index), t, x, return_dict=False, **more)[0]
    return [*seen, x * end.alpha if scaled else x]


def worst(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest difference over a trajectory, relative to the largest |x| at that point."""
    return max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(a, b, strict=True))


def compare(scheduler: Any, steps: int, **options: Any) -> float:
    """The worst difference of whole trajectories by a scheduler and by what its config stands for."""
    given = {"noise": options["noise"]} if "noise" in options else {}
    config = {"_class_name": type(scheduler).__name__, **written(scheduler)}
    setup = from_scheduler_config(config, steps, **given)
    scheduler.set_timesteps(steps)
    if "prepare" in options:
        options["prepare"](scheduler)
    by = theirs(scheduler, setup, options.get("scaled", True), options.get("atol", 5e-3), options.get("draws", False))
    return worst(ours(setup), by)


def written(scheduler: Any) -> dict[str, Any]:
    """The fields that a saved config of the scheduler would have."""
    return {key: value for key, value in scheduler.config.items() if not key.startswith("_")}


def config_of(rule: str | None, spacing: str, prediction: str = "v_prediction") -> dict[str, Any]:
    ramp = {} if rule is None else {rule: True}
    offset = 1 if spacing == "leading" else 0
    return {**SD, **ramp, "timestep_spacing": spacing, "steps_offset": offset, "prediction_type": prediction}


@pytest.mark.parametrize(("rule", "spacing"), CASES)
def test_kdpm2(rule: str | None, spacing: str) -> None:
    config = config_of(rule, spacing, "epsilon" if spacing == "linspace" else "v_prediction")
    plain, ancestral = KDPM2DiscreteScheduler(**config), KDPM2AncestralDiscreteScheduler(**config)
    for steps in STEPS:
        assert compare(plain, steps) < TOLERANCE
        how = {"noise": Numbered(every=2), "draws": True}
        how |= {"prepare": exact_split, "atol": 2e-2} if steps == 2 else {}
        assert compare(ancestral, steps, **how) < TOLERANCE


def exact_split(scheduler: Any) -> None:
    """sigma_down = sigma'^2 / sigma and the middle in float64, without the cancellation of sqrt(sigma'^2 - sigma_up^2).

    In float32 it moves x by up to 1.2e-3 in the step from 14.6 to 0.03 of two steps with linspace spacing, and the
    timestep of the middle, which is already set here, by 0.001 or 0.01, depending on the processor.
    """
    sigmas = torch.cat((scheduler.sigmas[:1], scheduler.sigmas[1:-1:2])).double()
    down = torch.cat((sigmas[1:] ** 2 / sigmas[:-1], sigmas.new_zeros(1)))
    for name, values in (("sigmas_down", down), ("sigmas_interpol", (sigmas * down).sqrt())):
        setattr(scheduler, name, torch.cat((values[:1], values[1:].repeat_interleave(2), values[-1:])))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("rule", "spacing"), CASES)
def test_lms(rule: str | None, spacing: str, prediction: str) -> None:
    scheduler = LMSDiscreteScheduler(**config_of(rule, spacing, prediction))
    for steps in STEPS:
        assert compare(scheduler, steps) < TOLERANCE


@pytest.fixture(scope="module")
def sde_class() -> Any:
    """DPMSolverSDEScheduler, whose module imports torchsde for its noise alone; these tests give it theirs."""
    absent = "torchsde" not in sys.modules
    sys.modules.setdefault("torchsde", ModuleType("torchsde"))
    try:
        return importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde").DPMSolverSDEScheduler
    finally:
        if absent:
            del sys.modules["torchsde"]


def fixed_draws(scheduler: Any) -> None:
    taken = iter(draws(100))
    scheduler.noise_sampler = lambda start, end: next(taken)


@pytest.mark.parametrize(("rule", "spacing"), CASES)
def test_dpm_solver_sde(sde_class: Any, rule: str | None, spacing: str) -> None:
    """With the same draws, one an evaluation, in place of the Brownian tree."""
    scheduler = sde_class(**config_of(rule, spacing, "epsilon" if spacing == "linspace" else "v_prediction"))
    for steps in STEPS:
        assert compare(scheduler, steps, prepare=fixed_draws, noise=Numbered()) < TOLERANCE


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_one_step(sde_class: Any, spacing: str) -> None:
    """With linspace spacing Diffusers' only step starts at t = 0, ours at the last entry."""
    config = config_of(None, spacing)
    for plain in (KDPM2DiscreteScheduler, LMSDiscreteScheduler):
        assert compare(plain(**config), 1) < TOLERANCE
    assert compare(KDPM2AncestralDiscreteScheduler(**config), 1, noise=Numbered(), draws=True) < TOLERANCE
    assert compare(sde_class(**config), 1, noise=Numbered(), prepare=fixed_draws) < TOLERANCE
    assert compare(SASolverScheduler(**config), 1, scaled=False, noise=Numbered(), draws=True) < TOLERANCE


def in_float64(scheduler: Any) -> None:
    """From three terms on Diffusers' float32 coefficients cancel, and move x by up to 6e-5 at 20 steps."""
    scheduler.sigmas = scheduler.sigmas.double()


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("orders", [(1, 1), (1, 2), (2, 2), (3, 3), (3, 4)])
def test_sa_solver(orders: tuple[int, int], lower: bool) -> None:
    # float32 tables move a timestep that is cut off by 1 where it is nearly whole.
    how: dict[str, Any] = {"scaled": False, "noise": Numbered(), "draws": True, "atol": 1.0}
    how |= {"prepare": in_float64} if max(orders) > 2 else {}
    for rule, spacing in CASES:
        config = config_of(rule, spacing)
        config |= {"predictor_order": orders[0], "corrector_order": orders[1], "lower_order_final": lower}
        scheduler = SASolverScheduler(**config)
        for steps in STEPS:
            assert compare(scheduler, steps, **how) < TOLERANCE


def test_sa_solver_on_flow() -> None:
    config = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
    scheduler = SASolverScheduler(**config)
    for steps in STEPS:
        how = {"scaled": False, "noise": Numbered(), "draws": True, "atol": 1.0, "prepare": in_float64}
        assert compare(scheduler, steps, **how) < TOLERANCE


def test_ipndm_after_its_first_step() -> None:
    """Diffusers' first step, from alpha = 0, loses the network's output to rounding: x0 comes out as 0.

    From its second step on it agrees with ours, once it stands where ours does.
    """
    config = {"_class_name": "IPNDMScheduler", "num_train_timesteps": 1000}
    for steps in (2, 4, 9, 20):
        setup = from_scheduler_config(config, steps)
        scheduler = IPNDMScheduler()
        scheduler.set_timesteps(steps)
        own = ours(setup)
        told = torch.tensor([node.timestep for node in setup.solver.nodes])
        torch.testing.assert_close(scheduler.timesteps, told, rtol=0, atol=1e-4)
        s = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        scheduler.betas = torch.sin(s * torch.pi / 2) ** 2  # 1 - betas^2 cancels in float32
        scheduler.alphas = (1 - scheduler.betas**2) ** 0.5
        for index, t in enumerate(scheduler.timesteps):
            node, x = setup.solver.nodes[index], own[index]
            output = network(mixture().x0(x, node.alpha, node.sigma), x, setup, index)
            after = scheduler.step(output, t, x).prev_sample
            if index == 0:
                torch.testing.assert_close(after, x * setup.grid.points[1].sigma)
            else:
                assert float((after - own[index + 1]).abs().max() / after.abs().max()) < TOLERANCE
